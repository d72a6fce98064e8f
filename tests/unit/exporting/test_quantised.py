"""Convolutions in 8 bits by the ranges of given values."""

import numpy as np
import onnx_graphs
import pytest

from jaxdet.exporting import quantised
from jaxdet.exporting.graph import Graph

onnx = onnx_graphs.onnx
SHAPE = (1, 3, 16, 16)
WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (8, 3, 3, 3))


def _file(path, weights=WEIGHTS):
    """Two convolutions, of which the second makes the output, with metadata."""
    rng = np.random.default_rng(2)
    graph = Graph()
    first = graph.node("Conv", ["x", graph.weight(weights.astype(np.float32))])
    middle = graph.node("Relu", [first])
    last = graph.node("Conv", [middle, graph.weight(rng.normal(0, 0.3, (4, 8, 1, 1)).astype(np.float32))])
    kinds = {"x": (np.dtype(np.float32), SHAPE)}, {last: (np.dtype(np.float32), (1, 4, 14, 14))}
    model = onnx.load_from_string(onnx_graphs.model(graph, *kinds))
    onnx.helper.set_model_props(model, {"jaxdet": "{}"})
    path.write_bytes(model.SerializeToString())


@pytest.mark.runtimes
def test_all_but_the_last_convolutions_are_quantised(tmp_path):
    _file(tmp_path / "whole.onnx")
    rng = np.random.default_rng(1)
    given = [{"x": rng.random(SHAPE, np.float32)} for _ in range(4)]
    (tmp_path / "q.onnx").write_bytes((tmp_path / "whole.onnx").read_bytes())
    quantised.quantise(tmp_path / "q.onnx", given)
    made = onnx.load(str(tmp_path / "q.onnx"))
    assert [(p.key, p.value) for p in made.metadata_props] == [("jaxdet", "{}")]
    first, last = (n for n in made.graph.node if n.op_type == "Conv")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    makes = {name: n for n in made.graph.node for name in n.output}
    weight = makes[first.input[1]]
    assert weight.op_type == "DequantizeLinear"
    assert stored[weight.input[0]].dtype == np.uint8
    assert stored[weight.input[1]].shape == (8,)  # a scale for each channel
    assert stored[last.input[1]].dtype == np.float32
    whole, small = (onnx_graphs.session(str(tmp_path / name)) for name in ("whole.onnx", "q.onnx"))
    for one in given:
        expected = whole.run(None, one)[0]
        error = np.abs(small.run(None, one)[0] - expected).max() / np.abs(expected).max()
        assert 1e-4 < error < 0.03  # three roundings to 1/256 of a range


@pytest.mark.runtimes
def test_sums_of_large_products_do_not_overflow(tmp_path):
    """Two products of the largest values do not fit 16 bits, in which processors without VNNI add them."""
    _file(tmp_path / "whole.onnx", np.full((8, 3, 3, 3), 0.3))
    given = [{"x": np.full(SHAPE, value, np.float32)} for value in (0.0, 1.0)]
    (tmp_path / "q.onnx").write_bytes((tmp_path / "whole.onnx").read_bytes())
    quantised.quantise(tmp_path / "q.onnx", given)
    whole, small = (
        onnx_graphs.session(str(tmp_path / name)).run(None, given[1])[0] for name in ("whole.onnx", "q.onnx")
    )
    np.testing.assert_allclose(small, whole, atol=0.01 * np.abs(whole).max())
