import pytest

from jaxdet.benchmarks import hlo

TEXT = """HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[4,2]{1,0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main.1 (x: f32[4,8], k: f32[8,2]) -> f32[4,2] {
  %x = f32[4,8]{1,0} parameter(0), metadata={op_name="variables.params[\\'a\\'][\\'b\\']"}
  %k = f32[8,2]{1,0} parameter(1), metadata={op_name="batch"}
  %pair = (f32[4]{0}, /*index=1*/bf16[2,3]{1,0}) custom-call(%x), custom_call_target="__cudnn$norm"
  ROOT %dot.1 = f32[4,2]{1,0} dot(%x, %k), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_reads_computations_operands_and_bytes():
    program = hlo.parse(TEXT)
    assert list(program.computations) == ["add", "main.1"]
    assert program.entry == "main.1"
    entry = program.computations["main.1"]
    assert entry["dot.1"].operands == ("x", "k")
    assert entry["dot.1"].is_root
    assert entry["x"].source == "variables.params['a']['b']"
    assert entry["k"].operands == ("1",)
    pair = entry["pair"]
    assert (pair.bytes, pair.elements, pair.target) == (4 * 4 + 6 * 2, 10, "__cudnn$norm")
    assert hlo.shapes(pair.types) == [("f32", (4,)), ("bf16", (2, 3))]


def test_counts_multiplications_of_a_product():
    entry = hlo.parse(TEXT).computations["main.1"]
    assert hlo.multiplications(entry["dot.1"], entry) == 4 * 2 * 8
    assert hlo.multiplications(entry["pair"], entry) == 0


@pytest.mark.parametrize(
    ("target", "operands", "result", "shape"),
    [
        ("Forward", ("image", "kernel"), "f32[1,10,10,16]", 1600),
        ("BackwardInput", ("out", "kernel"), "f32[1,10,10,4]", 1600),
        ("BackwardFilter", ("image", "out"), "f32[16,3,3,4]", 1600),
    ],
)
def test_a_convolution_and_its_gradients_take_the_same_multiplications(target, operands, result, shape):
    lines = {
        "image": "f32[1,10,10,4]{3,2,1,0} parameter(0)",
        "kernel": "f32[16,3,3,4]{3,2,1,0} parameter(1)",
        "out": "f32[1,10,10,16]{3,2,1,0} parameter(2)",
        "conv": f"({result}{{3,2,1,0}}, u8[0]{{0}}) custom-call(%{operands[0]}, %{operands[1]}), "
        f'dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv{target}"',
    }
    body = "\n".join(f"  %{name} = {text}" for name, text in lines.items())
    entry = hlo.parse(f"ENTRY %main () -> f32[] {{\n{body}\n}}\n").computations["main"]
    # Every one of the 100 positions and 16 channels out sums 3 x 3 x 4 products.
    assert hlo.multiplications(entry["conv"], entry) == shape * 9 * 4


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule empty\n")
