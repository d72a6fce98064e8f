import logging

import jax
import jax.numpy as jnp
import pytest

from jaxdet.ops import kernel_trial, nms_kernel


def test_kernels_that_work_have_no_fault():
    """Models are put together inside traced functions too."""
    found = []
    jax.eval_shape(lambda: found.append(kernel_trial.fault(interpret=True)))
    assert found == [None]


def test_kernels_that_do_not_run_are_not_used(monkeypatch, caplog):
    """There is no GPU here, so that a trial as on one fails: with one line, once."""
    kernel_trial._passed.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with caplog.at_level(logging.WARNING):
        assert [kernel_trial.usable(), kernel_trial.usable()] == [False, False]
    (record,) = caplog.records
    assert "kernel of layer norm does not run here" in record.message
    monkeypatch.setenv("JAXDET_GPU_FORM", "0")
    assert not kernel_trial.usable()
    kernel_trial._passed.cache_clear()


@pytest.mark.parametrize("wrong", [lambda kept: ~kept, lambda kept: kept * jnp.nan])
def test_a_kernel_that_computes_something_else_is_found(wrong, monkeypatch):
    right = nms_kernel.suppress
    monkeypatch.setattr(nms_kernel, "suppress", lambda *a, **k: wrong(right(*a, **k)))
    assert kernel_trial.fault(interpret=True) == (
        "the kernel of suppression computes something else here than XLA"
    )


def test_an_error_without_a_message_is_a_fault_too(monkeypatch):
    def fails(*_args, **_kwargs):
        raise RuntimeError

    monkeypatch.setattr(nms_kernel, "suppress", fails)
    expected = "the kernel of suppression does not run here (RuntimeError: RuntimeError)"
    assert kernel_trial.fault(interpret=True) == expected
