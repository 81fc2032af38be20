"""Lanes: those that meet a rate, those that fit a budget, and those that are not legal."""

from itertools import product

import pytest
import torch
from torch import nn
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


def chosen(q: GraphModule, lanes: object = "auto", rate: float | None = None, **budget: int):
    return lanes_for(q, lanes, rate, 200e6, budget, lambda lanes: lower(q, lanes))  # type: ignore


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


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ({"fc9": (1, 1)}, "lanes names 'fc9': the layers are 0, 2"),
        ({"0": (17, 1)}, r"lanes of 0 are \(17, 1\)"),
        ({"0": (4, 25)}, "M_out 1 to 24"),
        ("fast", "lanes='fast'"),
    ],
)
def test_lanes_that_are_not_legal(q: GraphModule, lanes: object, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        chosen(q, lanes)


def test_layers_without_lanes_meet_the_rate(q: GraphModule) -> None:
    found = chosen(q, {"0": (8, 2)}, rate=5e6)
    assert found["0"] == (8, 2)
    assert Layer("2", 1, 24, 5, ()).interval(*found["2"]) <= 40
