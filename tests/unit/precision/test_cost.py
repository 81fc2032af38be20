"""`cost` against counts by hand."""

import time

import pytest

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.precision import CostModel, Entry


def test_a_plan_by_hand(mlp) -> None:
    plan = Plan({"fc1.input": "mxint8", "fc1.weight": "mxint4", "fc2.weight": "int4"})
    cost = quire.cost(mlp.graph, plan)
    weights = 48 * (64 * 4 + 2 * 8) + 10 * (48 * 4 + 32)  # blocks of 32; one fp32 scale a row
    activations = (64 * 8 + 2 * 8) + 48 * 32  # fc2.input has no entry: fp32
    assert cost.weight_bits == weights / (48 * 64 + 10 * 48)
    assert cost.activation_bits == activations / (64 + 48)
    assert cost.bits == (weights + activations) / (48 * 64 + 10 * 48 + 64 + 48)
    assert cost.macs == 48 * 64 + 10 * 48
    assert cost.bitops == 48 * 64 * 8 * 4 + 10 * 48 * 32 * 4


def test_a_short_last_block_pays_for_its_scale(mlp) -> None:
    cost = quire.cost(mlp.graph, Plan({"fc2.input": "bfp(4,size=32)"}))
    assert cost.activation_bits == (64 * 32 + 48 * 4 + 2 * 8) / (64 + 48)


def test_a_tied_tensor_counts_once(lm) -> None:
    none, one = Plan(), Plan({"v.input": "fixed(8,4)"})
    before, after = quire.cost(lm.graph, none), quire.cost(lm.graph, one)
    operands = {s.tie: s for s in quire.sites(lm.graph).values() if s.is_operand}
    activations = sum(s.elements for s in operands.values() if s.role == "activation")
    assert before.activation_bits == 32
    assert after.activation_bits == 32 - 24 * 7 * 16 / activations
    # The embedding is the head's weight: 20 x 16 once, and the weights of q, k and v.
    head = quire.cost(lm.graph, Plan({"head.weight": "fixed(8,4)"}))
    assert head.weight_bits == 32 - 24 * 320 / (320 + 3 * 256)


def test_a_convolution_input_has_the_bits_of_its_windows(cnn) -> None:
    cost = quire.cost(cnn.graph, Plan({"conv1.input": "bfp(4,size=8)"}))
    window = (27 * 4 + 4 * 8) / 27
    conv1, conv2, fc = 3 * 64, 8 * 64, 54
    expected = (window * conv1 + 32 * (conv2 + fc)) / (conv1 + conv2 + fc)
    assert cost.activation_bits == pytest.approx(expected, rel=1e-12)
    tensor = quire.cost(cnn.graph, Plan({"conv1.input": 'block(fixed(8,0),"tensor",fp32)'}))
    share = 8 + 32 / (27 * 64)  # one scale for the 64 windows
    expected = (share * conv1 + 32 * (conv2 + fc)) / (conv1 + conv2 + fc)
    assert tensor.activation_bits == pytest.approx(expected, rel=1e-12)


def test_an_entry_may_choose_its_axis(mlp) -> None:
    plan = Plan({"fc1.weight": Entry(parse("bfp(4,size=32)"), axis=0)})
    expected = 48 * 64 * 4 + 64 * 2 * 8 + 32 * 480  # 64 columns of 48 values, two blocks each
    assert quire.cost(mlp.graph, plan).weight_bits == expected / (48 * 64 + 480)


def test_metrics_are_floats_by_name(mlp) -> None:
    cost = quire.cost(mlp.graph, Plan.uniform(mlp.graph, "fixed(8,4)"))
    metrics = cost.metrics()
    assert list(metrics) == [
        "bits",
        "weight_bits",
        "activation_bits",
        "memory",
        "macs",
        "bitops",
    ]
    assert all(type(value) is float for value in metrics.values())
    assert metrics["bits"] == 8
    assert metrics["memory"] == cost.memory


def test_an_illegal_plan(mlp) -> None:
    with pytest.raises(PlanError, match=r"no site 'fc3.weight'"):
        quire.cost(mlp.graph, Plan({"fc3.weight": "mxint4"}))


def test_a_prepared_model_is_fast(lm) -> None:
    model = CostModel(lm.graph)
    plans = [Plan.uniform(lm.graph, f"fixed({w},3)", "all") for w in range(4, 9)]
    for plan in plans:
        model(plan)
    best = 1.0
    for plan in plans * 4:
        start = time.perf_counter()
        model(plan)
        best = min(best, time.perf_counter() - start)
    assert best < 1e-3
