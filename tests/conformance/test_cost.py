"""Multipliers and block memories of random designs: the estimate is what synthesis counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

import quire
from quire.hardware.lanes import layers_of
from quire.hardware.schedule import Layer

ACTIVATIONS = [
    *("mxint8", "mxint4", "mxint6", "mxfp4", "mxfp8_e4m3", "bl(4,scale_bits=8,size=8)"),
    *("fixed(12,8)", "fixed(10,6)", "fixed(8,4)", "fixed(5,3)", "fixed(4,2)", "ufixed(4,2)"),
    *("ufixed(8,5)", "ternary", "binary", "log(5)", "dmf(e=2,m=3)", "fp8_e4m3", 'table("nf4")'),
]
WEIGHTS = [
    *("mxint8", "mxint4", "mxint2", "mxint6", "mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "int4_g128"),
    *("block(fp4_e2m1,size=16,scale=fp8_e4m3)", "block(fixed(6,0),size=8,scale=bf16)"),
    *("block(ternary,size=16,scale=bf16)", "bl(5,scale_bits=6,size=7)", "fixed(8,6)"),
    *("fixed(5,3)", "fixed(4,3)", "fixed(12,9)", "fixed(10,9)", "ufixed(4,2)", "ternary"),
    *("binary", "log(5)", "dmf(e=2,m=3)", "fp8_e5m2", 'table("nf4")'),
]
SPARSE = [1.0, 1.0, 1.0, 0.5, 0.1, 0.0]


def lanes_of(r: random.Random, way: str, layer: Layer) -> tuple[int, int]:
    """All lanes, so that weights are constants; half of those out, for shallow memories; or any."""
    if way == "any":
        return r.choice(layer.lanes_in), r.randint(1, layer.n)
    return max(layer.lanes_in), layer.n if way == "all" else max(1, layer.n // 2)


def check(seed: int, folder: Path) -> None:
    r = random.Random(seed)
    torch.manual_seed(seed)
    k, n, m = r.randint(2, 10), r.randint(1, 5), r.randint(1, 3)
    function = r.choice([nn.ReLU(), nn.SiLU(), nn.Tanh()])
    way = r.choice(["all", "all", "half", "any", "any"])
    model = nn.Sequential(nn.Linear(k, n), function, nn.Linear(n, m)).eval()
    # Not seen: that a column is zero in each of several steps, or a whole layer, which frees what
    # is before it.
    first, last = (model[i].weight.data for i in (0, 2))
    first *= 4 * (torch.rand_like(first) < r.choice(SPARSE))
    last.copy_(4 * last + last.sign())
    last[:, 1:] *= torch.rand_like(last[:, 1:]) < (r.choice([1.0, 0.5]) if way == "all" else 1.0)
    x = torch.randn(16, k)
    graph = quire.capture(model, (x,))
    plan = quire.Plan({f"{i}.input": r.choice(ACTIVATIONS) for i in (0, 2)})
    plan.update({f"{i}.weight": r.choice(WEIGHTS) for i in (0, 2)})
    q = quire.quantize(graph, plan.for_hardware(graph, (x,), quiet=True))
    lanes = {layer.name: lanes_of(r, way, layer) for layer in layers_of(q)}
    design = quire.emit(q, folder, lanes, rom=r.choice(["auto", "block", "logic"]))
    used = {name: (of.DSP, of.BRAM) for name, of in design.synthesize("xc7").layers.items()}
    cost = {name: (of.DSP, of.BRAM) for name, of in design.cost().layers.items()}
    assert cost == {name: used[name] for name in cost}


@pytest.mark.parametrize("seed", [1, 8, 113, 1015])
def test_multipliers_and_memories_are_counted_exactly(tmp_path: Path, seed: int):
    check(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2000, 2100))
def test_multipliers_and_memories_of_many_designs_are_counted_exactly(tmp_path: Path, seed: int):
    check(seed, tmp_path)
