import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxdet.benchmarks import hlo, kernels, targets

# A loop of 5 rounds with a fused reduction and a copy, a loop without known rounds, prepared weights, and a
# sum over devices.
TEXT = """HloModule jit_f, is_scheduled=true

%fused_transpose (p: f32[3,3,4,8]) -> f32[8,3,3,4] {
  %p = f32[3,3,4,8]{3,2,1,0} parameter(0)
  ROOT %t = f32[8,3,3,4]{3,2,1,0} transpose(%p), dimensions={3,0,1,2}
}

%fused_reduce (p.1: f32[100,8], p.2: s32[]) -> f32[8] {
  %p.1 = f32[100,8]{1,0} parameter(0)
  %p.2 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %row = f32[10,8]{1,0} dynamic-slice(%p.1, %p.2, %zero), dynamic_slice_sizes={10,8}
  ROOT %r = f32[8]{0} reduce(%row, %zero), dimensions={0}, to_apply=%add
}

%body (s: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %s = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %a = f32[100,8]{1,0} get-tuple-element(%s), index=1
  %red = f32[8]{0} fusion(%a, %i), kind=kInput, calls=%fused_reduce
  %copy.1 = f32[100,8]{1,0} copy(%a)
  ROOT %out = (s32[], f32[100,8]{1,0}) tuple(%i, %copy.1)
}

%condition (c: (s32[], f32[100,8])) -> pred[] {
  %c = (s32[], f32[100,8]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%j, %j), direction=LT
}

ENTRY %main (w: f32[3,3,4,8], x: f32[1,5,5,4], rows: f32[100,8]) -> f32[] {
  %w = f32[3,3,4,8]{3,2,1,0} parameter(0), metadata={op_name="variables.params[\\'kernel\\']"}
  %x = f32[1,5,5,4]{3,2,1,0} parameter(1), metadata={op_name="batch"}
  %rows = f32[100,8]{1,0} parameter(2), metadata={op_name="batch"}
  %turned = f32[8,3,3,4]{3,2,1,0} fusion(%w), kind=kInput, calls=%fused_transpose
  %conv = (f32[1,5,5,8]{3,2,1,0}, u8[0]{0}) custom-call(%x, %turned), dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward"
  %n = s32[] constant(0)
  %start = (s32[], f32[100,8]{1,0}) tuple(%n, %rows)
  %known = (s32[], f32[100,8]{1,0}) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %open = (s32[], f32[100,8]{1,0}) while(%known), condition=%condition, body=%body
  %left = f32[100,8]{1,0} get-tuple-element(%open), index=1
  %begun = f32[100,8]{1,0} all-reduce-start(%left), to_apply=%add
  ROOT %end = f32[100,8]{1,0} all-reduce-done(%begun)
}
"""


@pytest.fixture(scope="module")
def found():
    return kernels.count(TEXT, ("variables",))


def test_bodies_count_times_the_rounds_that_are_known(found):
    # Transpose, convolution, 5 x 2 and 1 x (2 + the comparison) in loops, sum over devices.
    assert found.launches == 2 + 10 + 3 + 1
    assert found.by_kind() == {
        "copy": 5 + 1 + 1, "reduction": 6, "convolution": 1, "elementwise": 1, "collective": 1,
    }  # fmt: skip
    assert found.host_decisions == 1


def test_only_what_comes_from_weights_alone_is_theirs(found):
    assert [kernel.name for kernel in found.kernels if kernel.of_weights] == ["turned"]
    assert kernels.count(TEXT).of_weights == 0


def test_an_indexed_operand_moves_what_is_picked(found):
    reduction = next(kernel for kernel in found.kernels if kernel.name == "red")
    assert reduction.bytes == 4 * (10 * 8 + 1 + 8)  # the slice, its index, the result
    convolution = next(kernel for kernel in found.kernels if kernel.name == "conv")
    assert convolution.multiplications == 25 * 8 * 9 * 4


def test_slices_of_an_operand_are_read_once_each():
    text = """HloModule jit_f

%fused (p: f32[100]) -> (f32[10], f32[10]) {
  %p = f32[100]{0} parameter(0)
  %one = f32[10]{0} slice(%p), slice={[10:20]}
  %same = f32[10]{0} slice(%p), slice={[10:20]}
  %square = f32[100]{0} multiply(%p, %p)
  %last = f32[10]{0} slice(%square), slice={[20:30]}
  %sum = f32[10]{0} add(%one, %last)
  ROOT %both = (f32[10]{0}, f32[10]{0}) tuple(%sum, %same)
}

ENTRY %main (x: f32[100]) -> (f32[10], f32[10]) {
  %x = f32[100]{0} parameter(0)
  ROOT %pair = (f32[10]{0}, f32[10]{0}) fusion(%x), kind=kLoop, calls=%fused
}
"""
    (kernel,) = kernels.count(text).kernels
    assert kernel.bytes == 4 * (2 * 10 + 2 * 10)


def test_collectives_have_their_bytes(found):
    assert found.collectives == {"all-reduce": (1, 4 * 100 * 8)}


def test_small_kernels_take_a_launch_and_large_ones_their_arithmetic(found):
    target = targets.TARGETS["h100"]
    exchange = 2 * 3200 * 7 / 8 / (target.link_bandwidth * kernels.REACHED)
    expected = 16 * kernels.LAUNCH_S + kernels.HOST_S + exchange
    assert kernels.seconds(found, target, 8) == pytest.approx(expected)
    large = kernels.Kernel("k", "product", 1, 1e12, 0, 0, False, False)
    one = kernels.Count([large], 0, {})
    assert kernels.seconds(one, target) == pytest.approx(2e12 / target.tensor_float32 / kernels.REACHED)


def test_reads_what_the_compiler_writes():
    def loop(x, kernel):
        body = lambda i, a: jnp.tanh(a @ kernel)  # noqa: E731
        return lax.fori_loop(0, 7, body, x)

    shapes = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((8, 8), jnp.float32)
    text = jax.jit(loop).lower(*shapes).compile().as_text()
    found = kernels.count(text, ("kernel",))
    products = sum(kernel.rounds * kernel.multiplications for kernel in found.kernels)
    assert products == 7 * 4 * 8 * 8
    assert hlo.parse(text).entry
