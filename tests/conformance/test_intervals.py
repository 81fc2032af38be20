"""Balanced designs take as long as the busiest stage says: no step waits for another's pauses.

Lanes are chosen for a rate, so that several stages are busy nearly all the time; sizes and blocks
divide nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire.errors import HardwareError

CLOCK = 200e6


class Skips(nn.Module):
    """Functions, a residual edge, and the input once more at the end."""

    def __init__(self, inputs: int, a: int, b: int, outputs: int) -> None:
        super().__init__()
        self.a, self.b, self.r = nn.Linear(inputs, a), nn.Linear(a, b), nn.Linear(b, b)
        self.c = nn.Linear(b + inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.softplus(self.b(nn.functional.silu(self.a(x))))
        return self.c(torch.cat([h + self.r(h), x], -1))


class Residual(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.down(nn.functional.gelu(self.up(x))))


class Flattened(nn.Module):
    """Tokens, then all of them as one row, then two rows."""

    def __init__(self, k: int, n: int, tokens: int, m: int) -> None:
        super().__init__()
        self.each, self.all = nn.Linear(k, n), nn.Linear(tokens * n, 2 * m)
        self.last = nn.Linear(m, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.all(self.each(x).flatten(1)))
        return self.last(x.reshape(x.shape[0], 2, -1))


Made = tuple[nn.Module, tuple[int, ...]]


def _size(r: random.Random) -> int:
    return r.randint(3, 30)


def _skips(r: random.Random) -> Made:
    k = _size(r)
    return Skips(k, _size(r), _size(r), r.randint(1, 9)), (k,)


def _chain(r: random.Random) -> Made:
    sizes = [_size(r) for _ in range(r.randint(3, 5))]
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
    return nn.Sequential(*layers[:-1]), (*r.choice([(), (2,), (3,)]), sizes[0])


def _residual(r: random.Random) -> Made:
    k = _size(r)
    return Residual(k, _size(r)), (*r.choice([(), (2,), (3,)]), k)


def _flattened(r: random.Random) -> Made:
    k, tokens = r.randint(2, 16), r.randint(2, 4)
    return Flattened(k, r.randint(2, 9), tokens, r.randint(2, 9)), (tokens, k)


KINDS: list[Callable[[random.Random], Made]] = [_skips, _skips, _chain, _residual, _flattened]
ACTIVATIONS = [
    *("bm(e=2,m=1,scale_bits=8,size=16)", "mxint8", "bfp(6,scale_bits=4,size=7)"),
    *("bfp(6,scale_bits=4,size=5)", "bfp(6,scale_bits=4,size=3)", "fixed(8,4)", "fp8_e4m3"),
    "bl(4,scale_bits=8,size=8)",
]
WEIGHTS = [
    *("bl(5,scale_bits=6,size=7)", "mxint4", "fixed(6,4)", "bfp(5,scale_bits=6,size=5)"),
    *("bfp(5,scale_bits=6,size=12)", "ternary"),
]
CYCLES = [12, 20, 33, 50, 80, 120, 190, 300]


def _plan(r: random.Random, graph: GraphModule, x: Tensor) -> quire.Plan:
    """A format for each operand, half of the activations in the same one."""
    plan = quire.Plan.uniform(graph, r.choice(ACTIVATIONS))
    for site in list(plan):
        if site.endswith("weight"):
            plan[site] = r.choice(WEIGHTS)
        elif r.random() < 0.5:
            plan[site] = r.choice(ACTIVATIONS)
    return plan.for_hardware(graph, (x,), quiet=True)


def check_timing(q: GraphModule, folder: Path, cycles: int, x: Tensor) -> None:
    """A design for an interval of so many cycles, or the next power of two that can be had."""
    try:
        design = quire.emit(q, folder, rate=CLOCK / cycles, clock=CLOCK)
    except HardwareError:
        return check_timing(q, folder, 2 * cycles, x)
    run = design.simulate(x)
    assert run.interval is not None
    assert (run.latency, round(run.interval)) == run.predicted
    return None


def check_seed(seed: int, folder: Path) -> None:
    r = random.Random(seed)
    torch.manual_seed(seed)
    model, shape = r.choice(KINDS)(r)
    x = torch.randn(80, *shape)
    graph = quire.capture(model.eval(), (x[:16],))
    q = quire.quantize(graph, _plan(r, graph, x[:16]))
    check_timing(q, folder, r.choice(CYCLES), x)


def test_sums_in_a_burst_wait_for_narrow_block_casts_in_a_queue(tmp_path: Path):
    """`r` reads the sums of `b`, seven in as many cycles, one lane at a time."""
    torch.manual_seed(3)
    x = torch.randn(80, 13)
    graph = quire.capture(Skips(13, 27, 19, 3).eval(), (x,))
    plan = quire.Plan.uniform(graph, "bm(e=2,m=1,scale_bits=8,size=16)")
    plan.update({s: "bl(5,scale_bits=6,size=7)" for s in plan if s.endswith(".weight")})
    q = quire.quantize(graph, plan.for_hardware(graph, (x,), quiet=True))
    check_timing(q, tmp_path, 200, x)


@pytest.mark.parametrize("seed", [4, 9, 86])
def test_balanced_designs_keep_their_pace(tmp_path: Path, seed: int):
    check_seed(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1060))
def test_more_balanced_designs_keep_their_pace(tmp_path: Path, seed: int):
    check_seed(seed, tmp_path)
