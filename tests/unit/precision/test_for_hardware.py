"""`Plan.for_hardware`: bounded scales, and formats for what has none."""

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import PlanError
from quire.formats import Block, Fixed, Pow2
from quire.precision import Entry


class Residual(nn.Module):
    """A GELU layer with a residual edge, whose input is read by two nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(40, 24), nn.Linear(24, 40)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(nn.functional.gelu(self.fc1(x)))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(32, 40, generator=torch.Generator().manual_seed(1))


def captured(model: nn.Module, x: Tensor) -> torch.fx.GraphModule:
    return quire.capture(model.eval(), (x,))


@pytest.fixture(scope="module")
def graph(x: Tensor) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    return captured(Residual(), x)


def test_scales_of_activations_get_sixteen_exponents(
    graph: torch.fx.GraphModule, x: Tensor
) -> None:
    plan = quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x,), quiet=True)
    block = plan["fc1.input"].format
    assert isinstance(block, Block)
    largest = int(x.abs().max().log2().floor()) - block.element.emax
    assert block.scale == Pow2(4, 15 - (largest + 1))
    assert plan["fc1.weight"].format == quire.formats.parse("mxint8")


def test_within_the_calibration_no_value_changes(graph: torch.fx.GraphModule, x: Tensor) -> None:
    before = quire.Plan.uniform(graph, "mxint8")
    block = before.for_hardware(graph, (x,), quiet=True)["fc1.input"].format
    assert torch.equal(block.quantize(x), before["fc1.input"].format.quantize(x))


def test_what_has_no_entry_gets_one(graph: torch.fx.GraphModule, x: Tensor) -> None:
    plan = quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x,), quiet=True)
    widths = {name: plan[name].format.w for name in plan if isinstance(plan[name].format, Fixed)}
    assert widths == {
        "input.x": 16,
        "fc1.bias": 16,
        "gelu.input": 10,
        "gelu.output": 16,
        "fc2.bias": 16,
    }


def test_a_table_before_a_scalar_cast_needs_no_format_of_its_own(
    graph: torch.fx.GraphModule, x: Tensor
) -> None:
    plan = quire.Plan.uniform(graph, "fixed(8,4)").for_hardware(graph, (x,), quiet=True)
    assert "gelu.output" not in plan


def test_a_table_that_a_sum_reads_too_needs_a_format(x: Tensor) -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gelu, self.back = nn.GELU(), nn.Linear(40, 40)

        def forward(self, x: Tensor) -> Tensor:
            h = self.gelu(x)
            return h + self.back(h)

    graph = captured(Skip(), x)
    plan = quire.Plan.uniform(graph, "fixed(8,4)").for_hardware(graph, (x,), quiet=True)
    assert plan["gelu.output"].format.bits == 16


def test_the_ends_of_a_table_lose_blocks_and_wide_scalars(
    graph: torch.fx.GraphModule, x: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = quire.Plan.uniform(graph, "mxint8", scope="all").for_hardware(graph, (x,))
    printed = capsys.readouterr().out
    given = quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x,), quiet=True)
    for name, bits in (("gelu.input", 10), ("gelu.output", 16)):
        assert plan[name] == given[name]
        assert plan[name].format.bits == bits
        [line] = [line for line in printed.splitlines() if name in line]
        assert line.split(maxsplit=3) == [
            name, "mxint8", str(plan[name]), "a table has scalars at its ends "
        ]  # fmt: skip
    assert isinstance(plan["add.other"].format, Block)
    wide = quire.Plan({"gelu.input": "fp32", "gelu.output": "fp32"})
    plan = wide.for_hardware(graph, (x,), quiet=True)
    assert (plan["gelu.input"], plan["gelu.output"]) == (given["gelu.input"], Entry.of("fp32"))


def test_a_table_output_whose_reader_casts_to_a_scalar_loses_blocks_without_a_successor(
    graph: torch.fx.GraphModule, x: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    given = quire.Plan.uniform(graph, "fixed(8,4)") | {"gelu.output": "mxint8"}
    assert "gelu.output" not in given.for_hardware(graph, (x,))
    assert "gelu.output  mxint8  -" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "200"])
def test_formats_are_printed_whole_in_a_narrow_terminal(
    graph: torch.fx.GraphModule, x: Tensor, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, columns: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", columns)
    plan = quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x,))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert f" fc1.input    mxint8  {plan['fc1.input']}  the scales of the data" in printed
    assert quire.Plan(plan).for_hardware(graph, (x,)) == plan
    assert capsys.readouterr().out == "the plan fits hardware as it is\n"


def test_an_input_has_the_format_of_its_only_cast(x: Tensor) -> None:
    graph = captured(nn.Linear(40, 3), x)
    plan = quire.Plan.uniform(graph, "bm(e=2,m=3)").for_hardware(graph, (x,), quiet=True)
    assert plan["input.input_1"] == plan["linear.input"]


def test_a_bias_is_no_finer_than_the_products(x: Tensor) -> None:
    graph = captured(nn.Linear(40, 3), x)
    plan = quire.Plan.uniform(graph, "fixed(8,4)").for_hardware(graph, (x,), quiet=True)
    assert plan["linear.bias"].format == Fixed(16, 8)


def test_entries_that_fit_stay(graph: torch.fx.GraphModule, x: Tensor) -> None:
    given = quire.Plan.uniform(graph, "fixed(8,4)", scope="all")
    assert given.for_hardware(graph, (x,), quiet=True) == given


def test_the_given_plan_stays_and_changes_are_printed(
    graph: torch.fx.GraphModule, x: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    given = quire.Plan.uniform(graph, "mxint8")
    copy = dict(given)
    given.for_hardware(graph, (x,))
    assert dict(given) == copy
    printed = capsys.readouterr().out
    assert "fc1.input" in printed
    assert "gelu.output" in printed
    assert "fc1.weight" not in printed


def test_static_scales_stay(graph: torch.fx.GraphModule, x: Tensor) -> None:
    entry = Entry(quire.formats.parse('block(fixed(8,0),size="tensor",scale=bf16)'), scale=0.05)
    plan = quire.Plan({"fc1.input": entry}).for_hardware(graph, (x,), quiet=True)
    assert plan["fc1.input"] == entry


def test_calibration_with_nan_is_refused(graph: torch.fx.GraphModule, x: Tensor) -> None:
    with pytest.raises(PlanError, match="NaN"):
        quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x * float("nan"),), quiet=True)


def test_of_zeros_alone_the_scales_are_those_for_values_up_to_one(
    graph: torch.fx.GraphModule, x: Tensor
) -> None:
    plan = quire.Plan.uniform(graph, "mxint8")
    block = plan.for_hardware(graph, (0 * x,), quiet=True)["fc1.input"].format
    assert isinstance(block, Block)
    assert block.scale == Pow2(4, 15 - 1)
