"""What becomes hardware and what does not, said before anything is written; designs as files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import HardwareError
from quire.formats import parse
from quire.hardware import Design
from quire.precision.entry import Entry


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def emitted(folder: Path, plan: dict[str, object], model: nn.Module | None = None) -> Design:
    """A model in fixed(8,5), but for what a plan says, with its first input of 6 values."""
    model = small() if model is None else model
    graph = quire.capture(model, (torch.randn(2, 6),))
    entries = {**quire.Plan.uniform(graph, "fixed(8,5)"), "input.input_1": "fixed(8,5)"}
    q = quire.quantize(graph, quire.Plan({**entries, **plan}))
    return quire.emit(q, folder, rate=1e6)


def refusal(folder: Path, plan: dict[str, object], model: nn.Module | None = None) -> str:
    """The message of a plan that does not fit; nothing is written."""
    with pytest.raises(HardwareError) as caught:
        emitted(folder, plan, model)
    assert not folder.exists()
    return str(caught.value)


class Unsupported(nn.Module):
    """Four things that have no hardware, and what reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)
        self.norm, self.softmax = nn.LayerNorm(6), nn.Softmax(-1)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.first(input)
        return self.last(self.norm(x)), self.softmax(x), x.flip(-1), x.cumsum(-1)


def test_every_node_without_hardware_is_listed_with_its_path(tmp_path: Path):
    message = refusal(tmp_path / "out", {}, Unsupported())
    first, *rest = message.splitlines()
    assert first == "the graph cannot become hardware:"
    assert [line.split(":")[0].strip() for line in rest] == ["norm", "softmax", "flip", "cumsum"]
    for line, op in zip(rest, ("layer_norm", "softmax", "flip", "cumsum"), strict=True):
        assert op in line
    # What would be supported; and `last`, which only reads what cannot be made, is not blamed.
    assert "there are linear layers" in rest[0]
    assert "in an order that hardware does not" in rest[2]
    assert "last" not in message.replace("the last", "")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"0.input": "mxint8", "input.input_1": "mxint8", "0.weight": "mxint8"}, "for_hardware"),
        ({"0.input": "bf16", "input.input_1": "bf16"}, "max_accumulator"),
        ({"0.weight": "int8"}, "bf16"),
        ({"0.weight": 'block(table("nf4"),size=64,scale=bf16)'}, "or a power of two"),
        ({"0.weight": "nvfp4"}, "scale=bf16"),
        ({"0.weight": "uint4_g128"}, "zero points"),
        ({"0.weight": Entry(parse("mxint8"), axis=0)}, "leave the axis of the entry out"),
        ({"0.weight": Entry(parse("mxint8"), axis=(0, 1))}, "leave the axis of the entry out"),
        ({"2.input": "int8"}, "quire.precision.calibrate(graph, data, plan)"),
        ({"2.input": Entry(parse("int8"), scale=0.3)}, "bf16"),
        ({"2.input": 'block(fixed(8,6),size="tensor",scale=pow2(4))'}, "last axis"),
    ],
)
def test_formats_without_hardware_name_what_to_take(
    tmp_path: Path, plan: dict[str, object], said: str
):
    message = refusal(tmp_path / "out", plan)
    assert said in message
    assert message.splitlines()[1].startswith(("  0:", "  2:"))


def test_an_input_is_refused_what_its_stream_cannot_carry(tmp_path: Path):
    # The host would find another scale in each batch, of which the stream has none.
    message = refusal(tmp_path / "out", {"input.input_1": "int8", "0.input": "int8"})
    assert "  input_1: int8 on an activation finds a real scale in the data" in message
    # Blocks across rows.
    model, x = nn.Linear(6, 5), torch.randn(2, 4, 6)
    graph = quire.capture(model, (x,))
    across = Entry(parse("bfp(4,scale_bits=4,size=4)"), axis=1)
    plan = quire.Plan.uniform(graph, "fixed(8,5)") | {"linear.input": across}
    plan = plan.for_hardware(graph, (x,), quiet=True)
    with pytest.raises(HardwareError, match=r"input_1: blocks of .* run along axis 1"):
        quire.emit(quire.quantize(graph, plan), tmp_path / "out")


@pytest.mark.parametrize(
    ("site", "format", "advice"),
    [
        ("2.input", "int8", 'block(fixed(8,0),size="all",scale=pow2(4))'),
        ("2.input", "int4_g128", "block(fixed(4,0),size=128,scale=pow2(4))"),
        ("2.input", "uint8", 'block(ufixed(8,0),size="all",scale=bf16)'),
        ("2.input", "nvfp4", "block(fp4_e2m1,size=16,scale=pow2(4))"),
        (
            "2.input",
            'block(fixed(8,6),size="tensor",scale=pow2(4))',
            "block(fixed(8,6),size=32,scale=pow2(4))",
        ),
        ("2.weight", "nvfp4", "block(fp4_e2m1,size=16,scale=bf16)"),
    ],
)
def test_a_format_that_is_advised_parses_and_goes_further(
    tmp_path: Path, site: str, format: str, advice: str
):
    message = refusal(tmp_path / "out", {site: format})
    assert advice in message
    entry = Entry(parse(advice), scale=None if "pow2" in advice or "weight" in site else 1.5)
    assert emitted(tmp_path / "out", {site: entry}).interval > 0


def test_a_sum_that_is_too_wide_names_the_widest_operand_and_what_narrows_it(tmp_path: Path):
    model = nn.Linear(32, 3)
    model.weight.data[1] *= 2.0**-120
    graph = quire.capture(model, (torch.randn(2, 32),))
    plan = quire.Plan.uniform(graph, "fixed(8,5)") | {"linear.weight": "mxint8"}
    plan = plan.for_hardware(graph, (torch.randn(2, 32),), quiet=True)
    with pytest.raises(HardwareError, match=r"mxint8, whose scales span 12\d powers of two"):
        quire.emit(quire.quantize(graph, plan), tmp_path / "out")
    model.weight.data[1] = 1
    plan["linear.bias"] = "fp32"
    model.bias.data[0] = 2.0**-140
    with pytest.raises(HardwareError, match=r"bias, which has bits down to 2\^-140; a fixed-point"):
        quire.emit(quire.quantize(graph, plan), tmp_path / "out")


def test_an_input_without_a_format_names_for_hardware(tmp_path: Path):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, input: Tensor) -> Tensor:
            return self.a(input) + input

    graph = quire.capture(Shared(), (torch.randn(2, 6),))
    q = quire.quantize(graph, quire.Plan.uniform(graph, "fixed(8,5)"))
    with pytest.raises(HardwareError, match=r"input_1: .*input\.<name>.*for_hardware"):
        quire.emit(q, tmp_path / "out")


def test_a_function_without_a_scalar_input_or_result_names_for_hardware(tmp_path: Path):
    model = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    assert "1: its input is int" in refusal(tmp_path / "out", {}, model)
    message = refusal(tmp_path / "out", {"1.input": "fixed(10,6)", "2.input": "mxint8"}, model)
    assert "scalar cast" in message
    assert "for_hardware" in message


def test_lanes_that_cannot_be_name_the_legal_ones(tmp_path: Path):
    model = nn.Linear(12, 4)
    graph = quire.capture(model, (torch.randn(2, 12),))
    entry = "block(fixed(8,6),size=8,scale=pow2(4))"
    q = quire.quantize(graph, quire.Plan.uniform(graph, entry))
    with pytest.raises(HardwareError, match="M_in is one of 1, 2, 4, 8 and M_out 1 to 4"):
        quire.emit(q, tmp_path / "out", {"linear": (3, 1)})
    with pytest.raises(HardwareError, match="lanes names 'nowhere'"):
        quire.emit(q, tmp_path / "out", {"nowhere": (1, 1)})
    assert not (tmp_path / "out").exists()


FAMILIES = {"2.input": "block(fixed(6,4),size=4,scale=pow2(4))", "2.weight": "mxfp4"}


def test_a_loaded_design_is_the_emitted_one(tmp_path: Path):
    design = emitted(tmp_path / "out", FAMILIES)
    loaded = Design.load(tmp_path / "out")
    assert loaded == design
    assert loaded.folder == design.folder
    assert (loaded.interval, loaded.latency) == (design.interval, design.latency)
    assert str(loaded) == str(design)
    assert len(design.memories) > 0
    x = torch.randn(4, 6)
    assert loaded.encode(x) == design.encode(x)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


AGAIN = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("test_lower", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.emitted(pathlib.Path(sys.argv[2]), module.FAMILIES)
"""


def test_the_same_graph_gives_the_same_bytes_in_any_process(tmp_path: Path):
    emitted(tmp_path / "a", FAMILIES)
    first = contents(tmp_path / "a")
    assert {"manifest.json", "rtl/top.sv"} <= first.keys()
    emitted(tmp_path / "a", FAMILIES)
    assert contents(tmp_path / "a") == first
    arguments = [sys.executable, "-c", AGAIN, __file__, str(tmp_path / "b")]
    subprocess.run(arguments, check=True, capture_output=True)
    assert contents(tmp_path / "b") == first


NOT_DECODED = "which hardware does not decode: replace it, as torch.nan_to_num does"


@pytest.mark.parametrize("format", ["mxint8", "mxfp4", "fp8_e5m2", "int4_g128", "nf4"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_not_finite_is_named_with_its_place(
    tmp_path: Path, format: str, value: str
):
    model = small()
    with torch.no_grad():
        model.get_parameter("2.weight")[1, 3] = float(value)
    message = refusal(tmp_path / "out", {"2.weight": format}, model)
    assert f"  2: its weight in {format} holds {value} at (1, 3), {NOT_DECODED}" in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_bias_that_is_not_finite_is_named(tmp_path: Path, value: str):
    model = small()
    with torch.no_grad():
        model.get_parameter("0.bias")[2] = float(value)
    message = refusal(tmp_path / "out", {}, model)
    assert message.endswith(f"  0: 0.bias holds NaN or Inf, {NOT_DECODED}")


def test_a_scalar_weight_that_is_too_wide_has_no_scales_to_name(tmp_path: Path):
    message = refusal(tmp_path / "out", {"0.weight": "bf16"}, nn.Sequential(nn.Linear(6, 5)))
    assert "The widest operand is the weight, bf16; a format with fewer exponents" in message
