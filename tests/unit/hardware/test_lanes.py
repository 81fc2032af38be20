"""Lanes: those that meet a rate, those that fit a budget; arguments that are not legal."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire.errors import HardwareError
from quire.hardware.cost import estimate, total
from quire.hardware.lanes import lanes_for, layers_of
from quire.hardware.lower import lower
from quire.hardware.schedule import SUM, Layer, for_interval

LAYER = Layer("fc", rows=2, k=24, n=10, blocks=(8,))


def network(plan: str) -> GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 5)).eval()
    x = torch.randn(16, 16)
    graph = quire.capture(model, (x,))
    fitted = quire.Plan.uniform(graph, plan).for_hardware(graph, (x,), quiet=True)
    return quire.quantize(graph, fitted)


@pytest.fixture(scope="module")
def q() -> GraphModule:
    return network("fixed(8,5)")


@pytest.mark.parametrize("cycles", [6, 12, 30, 60, 100, 480])
def test_no_cheaper_lanes_meet_the_interval(cycles: int) -> None:
    m_in, m_out = for_interval([LAYER], cycles)["fc"]
    assert LAYER.interval(m_in, m_out) <= cycles
    every = product(LAYER.lanes_in, range(1, LAYER.n + 1))
    costs = [(a + SUM) * b for a, b in every if LAYER.interval(a, b) <= cycles]
    assert (m_in + SUM) * m_out == min(costs)


def test_lanes_in_divide_the_blocks() -> None:
    assert LAYER.lanes_in == [1, 2, 4, 8]
    assert Layer("fc", 1, 6, 4, (8,)).lanes_in == [1, 2, 3, 4, 5, 6]


def test_an_interval_that_is_too_short_names_the_shortest() -> None:
    with pytest.raises(HardwareError, match=r"fc: 5 cycles .* it takes 6 at least"):
        for_interval([LAYER], 5)


def chosen(
    q: GraphModule, lanes: Any = "auto", rate: float | None = None, **budget: int
) -> dict[str, Any]:
    found, design = lanes_for(q, lanes, rate, 200e6, budget, lambda lanes: lower(q, lanes))
    assert design == lower(q, found)
    return dict(found)


def test_a_rate_sets_the_interval(q: GraphModule) -> None:
    assert lower(q, chosen(q, rate=2e6)).interval <= 100
    assert lower(q, chosen(q)).interval <= 200


def test_a_budget_gives_the_fastest_design_that_fits(q: GraphModule) -> None:
    budget = {"DSP": 12, "LUT": 700}
    design = lower(q, chosen(q, **budget))
    used = total(estimate(design).values())
    assert used.DSP <= 12
    assert used.LUT <= 700
    faster = lower(q, for_interval(layers_of(q), design.interval - 1))
    more = total(estimate(faster).values())
    assert more.DSP > 12 or more.LUT > 700


def test_a_budget_that_nothing_fits_says_what_it_takes(q: GraphModule) -> None:
    with pytest.raises(HardwareError, match=r"one product a cycle in each layer LUT is \d+"):
        chosen(q, LUT=20)


def test_a_rate_and_a_budget_that_clash(q: GraphModule) -> None:
    with pytest.raises(HardwareError, match=r"DSP is \d+, at most 2"):
        chosen(q, rate=2e6, DSP=2)


class Joined(nn.Module):
    """A concatenation takes the beats of two layers in turn."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.b(x)], -1))


@pytest.fixture(scope="module")
def joined() -> GraphModule:
    x = torch.randn(4, 12)
    graph = quire.capture(Joined().eval(), (x,))
    plan = {**quire.Plan.uniform(graph, "fixed(8,5)"), "input.x": "fixed(8,5)"}
    return quire.quantize(graph, quire.Plan(plan))


@pytest.mark.parametrize(
    ("cycles", "alone", "whole"), [(2, 4, 2), (5, 8, 4), (12, 24, 10), (20, 18, 18)]
)
def test_stages_between_layers_meet_the_rate_too(
    joined: GraphModule, cycles: int, alone: int, whole: int
) -> None:
    """alone, whole: the interval where each layer keeps within the cycles, and the design."""
    assert lower(joined, for_interval(layers_of(joined), cycles)).interval == alone
    assert lower(joined, chosen(joined, rate=200e6 / cycles)).interval == whole


def missed(q: GraphModule, rate: float | None, clock: float, lanes: Any = "auto") -> str:
    with pytest.raises(HardwareError) as caught:
        lanes_for(q, lanes, rate, clock, {}, lambda lanes: lower(q, lanes))
    return str(caught.value)


def test_a_rate_that_cannot_be_reached_names_the_stage_and_one_that_can(
    q: GraphModule, joined: GraphModule
) -> None:
    assert missed(joined, 3e8, 2e8) == (
        "rate=300000000 at clock=200000000 leaves 0.666667 cycles a sample, and cat takes 2: give "
        "rate=100000000 at most"
    )
    assert lower(joined, chosen(joined, rate=100000000)).interval == 2
    message = missed(q, None, 1e3)
    assert message.startswith("rate=1000000 (the default) at clock=1000 leaves 0.001 cycles a samp")
    reachable = float(message.split("rate=")[-1].split()[0])
    lanes, design = lanes_for(q, "auto", reachable, 1e3, {}, lambda lanes: lower(q, lanes))
    assert lanes == {"0": (16, 24), "2": (24, 5)}
    assert design.interval == 1


def test_a_layer_binds_rather_than_the_stream_that_it_reads() -> None:
    """Lanes lie within a block, so that 64 values take two beats, those of the input too."""
    graph = quire.capture(nn.Linear(64, 2), (torch.randn(2, 64),))
    plan = quire.Plan.uniform(graph, "mxint4").for_hardware(
        graph, (torch.randn(2, 64),), quiet=True
    )
    assert missed(quire.quantize(graph, plan), 2e8, 2e8).endswith(
        "leaves 1 cycles a sample, and linear takes 2: give rate=100000000 at most"
    )


def test_a_rate_binds_chosen_lanes_too(q: GraphModule) -> None:
    slow = {"0": (1, 1)}
    assert chosen(q, slow)["0"] == (1, 1)  # without a rate the choice decides
    assert missed(q, 1e6, 200e6, slow) == (
        "rate=1000000 at clock=200000000 leaves 200 cycles a sample, and m0 takes 384: give "
        "rate=520833 at most"
    )
    assert chosen(q, slow, rate=520833)["0"] == (1, 1)
    assert chosen(q, rate=1e-305) == {"0": (1, 1), "2": (1, 1)}
    assert "input_1 takes 1: give rate=200000000" in missed(q, 3e8, 200e6, "unroll")


def test_a_rate_below_one_a_second_can_be_typed_as_it_is_advised(q: GraphModule) -> None:
    message = missed(q, 0.4, 7.0, {"0": (1, 1), "2": (1, 1)})
    reachable = float(message.split("rate=")[-1].split()[0])
    assert 0.018 < reachable < 7 / 384
    lanes_for(q, {"0": (1, 1), "2": (1, 1)}, reachable, 7.0, {}, lambda lanes: lower(q, lanes))


PAIR = "give 'unroll' or (M_in, M_out), where M_in is 1 to 16 and M_out 1 to 24"
WHOLE = "give 'auto', 'unroll' or {layer: (M_in, M_out) or 'unroll'}"
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ({"fc9": (1, 1)}, "lanes names 'fc9': the layers are 0, 2"),
        ({"fc9": "unroll"}, "lanes names 'fc9': the layers are 0, 2"),
        ({0: 4}, "lanes names 0: the layers are 0, 2"),
        *(
            ({"0": pair}, f"lanes of 0 are {pair!r}: {PAIR}")
            for pair in ((17, 1), (4, 25), (0, 1), (1, 0), (-1, 1), (2.0, 1), (1, 2, 3), 4, "xx")
        ),
        *((lanes, f"lanes={lanes!r}: {WHOLE}") for lanes in ("fast", None, 4, [("0", (1, 1))])),
    ],
)
def test_lanes_that_are_not_legal(q: GraphModule, lanes: object, message: str) -> None:
    with pytest.raises(HardwareError) as caught:
        chosen(q, lanes)
    assert str(caught.value) == message


BUDGET = "give a whole number, 0 or more, or None"
FORMATS = "give a graph with formats, as quire.quantize(graph, plan) makes it; this has none"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"rate": rate}, f"rate={rate!r}: give samples a second, above 0 and finite, or None")
            for rate in (0, -1, NAN, INF, "x", True)
        ),
        *(
            ({"clock": clock}, f"clock={clock!r}: give Hz, above 0 and finite")
            for clock in (0, -1.0, NAN, INF, None)
        ),
        *(({"dsp": most}, f"dsp={most!r}: {BUDGET}") for most in (-1, NAN, 2.5, "x")),
        ({"lut": -1}, f"lut=-1: {BUDGET}"),
        ({"bram": NAN}, f"bram=nan: {BUDGET}"),
        ({"rom": "zz"}, "rom='zz': give 'auto', 'block' or 'logic'"),
        *(
            ({"levels": n}, f"levels={n}: give adders between two registers, a whole number of 1 o")
            for n in (0, -1)
        ),
        ({"max_accumulator": 0}, "max_accumulator=0: give bits, a whole number of 1 or more"),
        ({"vectors": [1]}, "vectors=<list>: give a tensor (samples, *shape) for each input, or No"),
        ({"name": 3}, "name=3: give the name of the top module, a str"),
        ({"path": 3}, "path=3: give a folder"),
        ({"q": None}, "q=None: give the graph that quire.quantize(graph, plan) makes"),
        ({"q": nn.Linear(2, 2)}, "q=<Linear>: give the graph that quire.quantize(graph, plan) mak"),
    ],
)
def test_arguments_that_are_not_legal(
    q: GraphModule, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    every: dict[str, Any] = {"q": q, "path": tmp_path / "out", **given}
    with pytest.raises(HardwareError) as caught:
        quire.emit(**every)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


def test_lanes_that_exceed_a_budget_are_what_to_lower(q: GraphModule, tmp_path: Path) -> None:
    layer = layers_of(q)[0]
    lanes = {layer.name: (layer.lanes_in[-1], layer.n)}
    with pytest.raises(HardwareError, match=r"DSP is .*, or give fewer lanes"):
        quire.emit(q, tmp_path / "out", lanes, dsp=0)


def test_a_graph_without_formats_is_no_design(tmp_path: Path) -> None:
    graph = quire.capture(nn.Linear(2, 2), (torch.randn(2, 2),))
    with pytest.raises(HardwareError) as caught:
        quire.emit(graph, tmp_path)
    assert str(caught.value).endswith(FORMATS)


def test_a_budget_without_layers(tmp_path: Path) -> None:
    graph = quire.capture(nn.ReLU(), (torch.randn(2, 2),))
    q = quire.quantize(graph, quire.Plan({"input.input_1": "fixed(8,4)"}))
    assert quire.emit(q, tmp_path / "out", dsp=0).cost().DSP == 0


def test_layers_without_lanes_meet_the_rate(q: GraphModule) -> None:
    found = chosen(q, {"0": (8, 2)}, rate=5e6)
    assert found["0"] == (8, 2)
    assert Layer("2", 1, 24, 5, ()).interval(*found["2"]) <= 40
