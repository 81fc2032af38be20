"""The cost of plans on a device, from a table of known times."""

import copy
import json

import pytest
import torch
from torch import nn

import quire
from quire import Plan
from quire.errors import KernelError, PlanError, TaskError
from quire.software.apply import apply
from quire.software.cost import (
    DeviceCostModel,
    Times,
    device_costs,
    fit,
    memory,
    weight_bytes,
)
from quire.software.kernels.table import Row, rows

SHAPES = [(64, 64), (128, 64), (256, 128)]


def row(format, m, n, k, microseconds, device="card"):
    return {
        **{"device": device, "op": "mx_linear", "format": format, "dtype": "bfloat16"},
        **{"m": m, "n": n, "k": k, "kernel": "one", "microseconds": microseconds},
    }


def linear(format, m, n, k):
    """A time on a line: 2 us and 1 us for each 4096 bytes, twice that at m = 16."""
    return (2 + weight_bytes(format, n, k) / 4096) * (1 if m == 1 else 2)


@pytest.fixture
def table(tmp_path):
    measured = [
        row(format, m, *shape, linear(format, m, *shape))
        for format in ("bf16", "mxint8", "mxint4")
        for m in (1, 16)
        for shape in SHAPES
    ]
    measured.append(row("mxint8", 1, *SHAPES[0], 99.0))  # a slower kernel
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"version": 1, "rows": measured}))
    return path


@pytest.fixture
def times(table):
    return Times(rows(table))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 96, bias=False))


def test_bytes_of_a_weight():
    assert weight_bytes("bf16", 10, 64) == 1280
    assert weight_bytes("mxint8", 10, 64) == 660
    assert weight_bytes("mxint4", 10, 33) == 10 * (17 + 2)


def test_a_line_is_found_and_one_that_falls_is_not():
    line = fit([(100, 12.0), (200, 22.0), (400, 42.0)])
    assert (line.start, line.slope) == pytest.approx((2.0, 0.1))
    assert fit([(100, 10.0), (200, 5.0)]).start == 0
    assert fit([(100, 10.0)]).at(50) == 5


@pytest.mark.parametrize("format", ["bf16", "mxint8", "mxint4"])
def test_times_of_measured_and_other_shapes(times, format):
    for m in (1, 16):
        for shape in (*SHAPES, (512, 512)):
            assert times.microseconds(format, m, *shape) == pytest.approx(linear(format, m, *shape))
    at = times.microseconds
    assert at(format, 4, 64, 64) == pytest.approx(1.5 * linear(format, 1, 64, 64))
    assert at(format, 64, 64, 64) == pytest.approx(4 * linear(format, 16, 64, 64))
    assert times.error == pytest.approx(0, abs=1e-9)


def test_the_error_of_what_lies_off_the_line():
    shapes = {(64, 64): 10.0, (128, 64): 10.0}
    off = Times(
        Row("card", "mx_linear", "bf16", "bfloat16", 1, *s, "one", t) for s, t in shapes.items()
    )
    assert off.error == pytest.approx((1.0 + 0.5) / 2)  # 20 for 10, and 5 for 10


def test_memory_is_that_of_the_applied_model(table):
    live = model().bfloat16()
    costs = DeviceCostModel(copy.deepcopy(live), "card", table=table)
    for plan in ({}, "mxint8", {"0.weight": "mxint4", "2.weight": "mxfp8_e4m3"}, "fixed(8,6)"):
        applied = copy.deepcopy(live)
        apply(applied, plan, quiet=True)
        tensors = (*applied.parameters(), *applied.buffers())
        expected = sum(t.numel() * t.element_size() for t in tensors)
        assert costs(plan).memory == memory(live, plan) == expected


@pytest.mark.parametrize("batch", [1, 16])
def test_time_is_the_sum_over_the_layers(table, batch):
    costs = DeviceCostModel(model(), "card", batch=batch, table=table)
    expected = linear("mxint8", batch, 128, 64) + linear("bf16", batch, 96, 128)
    assert costs({"0.weight": "mxint8"}).microseconds == pytest.approx(expected)
    ratio = weight_bytes("mxint6", 128, 64) / weight_bytes("mxint8", 128, 64)
    expected = ratio * linear("mxint8", batch, 128, 64) + linear("bf16", batch, 96, 128)
    assert costs({"0.weight": "mxint6"}).microseconds == pytest.approx(expected)


def test_a_graph_costs_what_the_live_model_costs(table):
    live = model()
    graph = quire.capture(copy.deepcopy(live), (torch.randn(2, 64),))
    on_graph, on_model = (DeviceCostModel(m, "card", table=table) for m in (graph, live))
    for plan in (Plan({"0.weight": "mxint4", "2.weight": "mxint8"}), Plan(), "mxint4"):
        assert on_graph(plan) == on_model(plan)
    uniform = Plan.uniform(graph, "mxint8")
    assert on_graph(uniform) == on_model("mxint8")
    assert set(on_graph(uniform).metrics()) == {"device_memory", "microseconds"}
    with pytest.raises(PlanError, match=r"no site '0.weigth' in the graph"):
        on_graph(Plan({"0.weigth": "mxint8"}))


def test_a_tied_weight_is_counted_once_in_bf16(table):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(96, 64), nn.Linear(64, 96, bias=False)
            self.head.weight = self.embed.weight

    with torch.device("meta"):
        costs = DeviceCostModel(Tied(), "card", table=table)
    found = costs({"head.weight": "mxint8"})
    assert found.memory == 2 * 96 * 64
    assert found.microseconds == pytest.approx(linear("bf16", 1, 96, 64))


def test_a_device_without_times(table, tmp_path):
    with pytest.raises(KernelError, match=r"no times of 'abacus' in .*table.json; it has card"):
        DeviceCostModel(model(), "abacus", table=table)
    with pytest.raises(KernelError, match=r"it has none yet: `quire bench tune` measures"):
        DeviceCostModel(model(), "abacus", table=tmp_path / "none.json")


def test_a_search_within_a_time(table, tmp_path):
    live, x = model().eval(), torch.randn(8, 64)
    with torch.no_grad():
        wanted = live(x)
    task = quire.Task(live, (x,), lambda m: {"loss": (m(x) - wanted).square().mean().item()})
    both = linear("mxint8", 1, 128, 64) + linear("mxint4", 1, 96, 128)
    study = quire.search(
        task,
        formats=["mxint4", "mxint8"],
        objectives={"loss": "min", "microseconds": "min"},
        limits={"microseconds": both},
        sites=["*.weight"],
        trials=8,
        storage=str(tmp_path / "study"),
        costs=device_costs("card", table=table),
        progress=False,
    )
    times = [t.metrics["microseconds"] for t in study.trials if t.state == "complete"][1:]
    assert times
    assert max(times) <= both + 1e-9
    assert linear("mxint4", 1, 128, 64) + linear("mxint4", 1, 96, 128) == pytest.approx(min(times))


def test_costs_with_names_that_quire_has(tmp_path):
    x = torch.randn(2, 64)
    task = quire.Task(model(), (x,), lambda m: {"loss": 0.0})
    with pytest.raises(TaskError, match="costs returned bits, which Quire computes: rename"):
        quire.search(
            task,
            ["mxint8"],
            {"loss": "min"},
            storage=str(tmp_path / "study"),
            costs=lambda graph: lambda plan: {"bits": 1.0},
            progress=False,
        )
