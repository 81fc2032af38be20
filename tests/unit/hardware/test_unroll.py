"""Unrolled linear layers: adder graphs against their matrices, and circuits against `exact`."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quire
from quire.errors import HardwareError
from quire.hardware import Design, Stalls
from quire.hardware.adders import AdderGraph, csd, solve
from quire.hardware.cost import LUT_OF_SUM
from quire.hardware.lint import lint


def matrix(shape: tuple[int, int], bits: int, seed: int = 0) -> np.ndarray:
    """Random integers, half of them zero, and a row of zeros."""
    random = np.random.default_rng(seed)
    whole = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    drawn = whole * (random.random(shape) < 0.5)
    drawn[shape[0] // 2] = 0
    return drawn.astype(object)


def product(graph: AdderGraph, x: list[int]) -> list[int]:
    """The outputs of a graph, by its adders alone."""
    values = list(x)
    for adder in graph.adders:
        right = values[adder.right] << adder.shift
        values.append(values[adder.left] + (-right if adder.subtracts else right))
    return [
        0 if t is None else (-1 if t.negative else 1) * (values[t.value] << t.shift)
        for t in graph.outputs
    ]


@pytest.mark.parametrize("weight", [0, 1, -1, 3, 7, -7, 23, 85, -128, 127, 255, 1 << 40])
def test_signed_digits_are_the_weight_and_no_two_are_neighbours(weight: int):
    digits = list(csd(weight))
    assert sum((-1 if negative else 1) << shift for shift, negative in digits) == weight
    assert all(b[0] - a[0] >= 2 for a, b in pairwise(digits))


@pytest.mark.parametrize(("shape", "bits"), [((5, 4), 8), ((3, 16), 4), ((8, 8), 40), ((1, 1), 2)])
def test_graph_multiplies_with_its_matrix(shape: tuple[int, int], bits: int):
    m = matrix(shape, bits)
    graph = solve(m, [(-8, 7)] * shape[1], "plain")
    for seed in range(5):
        x = np.random.default_rng(seed).integers(-8, 8, shape[1]).tolist()
        assert product(graph, x) == (m @ np.array(x, dtype=object)).tolist()


def test_what_rows_share_is_added_once():
    # 3 a + 3 b in both rows, once doubled and negated.
    m = np.array([[3, 3, 1], [-6, -6, 0]], dtype=object)
    graph = solve(m, [(-8, 7)] * 3, "plain")
    assert len(graph.adders) == 3
    assert graph.depth == 3
    assert (graph.matrix() == m).all()


def test_solver_that_is_not_there():
    with pytest.raises(HardwareError, match="no solver 'best': there are auto, da4ml, plain"):
        solve(matrix((2, 2), 4), [(0, 1)] * 2, "best")


def test_da4ml_multiplies_with_the_matrix():
    pytest.importorskip("da4ml")
    m = matrix((9, 7), 8)
    graph = solve(m, [(-128, 127)] * 7, "da4ml")
    assert (graph.matrix() == m).all()
    assert product(graph, list(range(-3, 4))) == (m @ np.arange(-3, 4)).tolist()


class Branches(nn.Module):
    """One input, read by layers in several formats."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(5, 6) for _ in FORMATS)
        self.down = nn.ModuleList(nn.Linear(6, 3, bias=i % 2 == 0) for i in range(len(FORMATS)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pairs = zip(self.up, self.down, strict=True)
        return tuple(down(torch.relu(up(x))) for up, down in pairs)


FORMATS = (
    # weight, what the second layer reads
    ("fixed(8,7)", "fixed(8,5)"),
    ("fixed(4,3)", "ufixed(5,3)"),
    ("mxint8", "fixed(6,3)"),
    ("minifloat(e=3,m=2)", "minifloat(e=3,m=3)"),
    ("log(4)", "dmf(e=2,m=3)"),
    ("block(fixed(4,0),size=2,scale=bf16)", "ternary"),
    ("ternary", "block(fixed(6,4),size=6,scale=pow2(3,bias=2))"),
)


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Design, torch.Tensor]:
    torch.manual_seed(0)
    model, x = Branches().eval(), torch.randn(96, 5)
    for layer in (*model.up, *model.down):
        nn.init.uniform_(layer.weight, -0.99, 0.99)
    graph = quire.capture(model, (x[:8],))
    plan = quire.Plan.uniform(graph, "fp32")
    for i, (weight, activation) in enumerate(FORMATS):
        plan[f"up.{i}.weight"] = plan[f"down.{i}.weight"] = weight
        plan[f"up.{i}.input"] = "fixed(8,5)"
        plan[f"down.{i}.input"] = activation
    q = quire.quantize(graph, plan.for_hardware(graph, (x,)))
    folder = tmp_path_factory.mktemp("unroll") / "branches"
    return quire.emit(q, folder, "unroll", levels=3), x


def test_every_format_is_exact(branches: tuple[Design, torch.Tensor]):
    design, x = branches
    kinds = [stage.kind for stage in design.stages]
    assert kinds.count("unrolled") == 2 * len(FORMATS)
    run = design.simulate(x)  # raises where a value is not that of `exact`
    assert run.latency == design.latency
    assert run.interval == design.interval == 1
    assert all(y.abs().max() > 0 for y in run.outputs)
    design.simulate(x, stalls=Stalls(0.4, 0.4), seed=2)


@pytest.fixture(scope="module")
def mlp() -> tuple[torch.fx.GraphModule, torch.Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    x = torch.randn(64, 8)
    graph = quire.capture(model, (x[:8],))
    plan = quire.Plan.uniform(graph, "fp32")
    for name in ("0", "2"):
        plan[f"{name}.weight"], plan[f"{name}.input"] = "fixed(6,5)", "fixed(6,3)"
    return quire.quantize(graph, plan.for_hardware(graph, (x,))), x


def test_one_layer_unrolled_beside_a_folded_one(
    mlp: tuple[torch.fx.GraphModule, torch.Tensor], tmp_path: Path
):
    q, x = mlp
    design = quire.emit(q, tmp_path / "mixed", {"0": "unroll", "2": (2, 1)})
    assert [s.kind for s in design.stages if s.kind in ("unrolled", "linear")] == [
        "unrolled",
        "linear",
    ]
    run = design.simulate(x)
    assert (run.latency, run.interval) == (design.latency, design.interval)
    cost = design.cost()
    assert (cost.latency, cost.interval) == (run.latency, run.interval)
    adders = next(stage.sum_bits for stage in design.stages if stage.kind == "unrolled")
    assert adders > 6 * 4  # a sum or more for each output
    assert LUT_OF_SUM * adders < cost.layers["m0"].LUT
    assert quire.hardware.Design.load(tmp_path / "mixed").cost() == cost


def test_fewer_levels_between_registers_take_more_cycles(
    mlp: tuple[torch.fx.GraphModule, torch.Tensor], tmp_path: Path
):
    q, _ = mlp
    latencies = [quire.emit(q, tmp_path / str(n), "unroll", levels=n).latency for n in (1, 3, 99)]
    lint(tmp_path / "3")
    assert latencies[-1] == 4  # AXI slices, and a register for each of two layers
    assert latencies[0] > latencies[1] > latencies[2]


def test_blocks_within_a_row_are_refused(tmp_path: Path):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 4)).eval(), torch.randn(16, 8)
    graph = quire.capture(model, (x,))
    plan = quire.Plan.uniform(graph, "fp32")
    plan["0.weight"], plan["0.input"] = (
        "fixed(4,3)",
        "block(fixed(4,2),size=4,scale=pow2(3,bias=2))",
    )
    q = quire.quantize(graph, plan.for_hardware(graph, (x,)))
    with pytest.raises(HardwareError, match=r"a row of 8 .* take blocks of 8 or more, or lanes"):
        quire.emit(q, tmp_path / "blocks", "unroll")
