"""What `Design.simulate` takes, and what it says about what it does not take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import QuireError
from quire.hardware import Design, Stalls, Waveform

SAMPLES = 3


class Twice(nn.Module):
    """Two inputs of different widths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.a(x) + self.b(y)


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(SAMPLES, k, generator=generator) for k in (4, 3))


@pytest.fixture(scope="module")
def hw(inputs: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Design:
    torch.manual_seed(0)
    graph = quire.capture(Twice(), inputs)
    plan = quire.Plan.uniform(graph, "fixed(8,5)").for_hardware(graph, inputs, quiet=True)
    return quire.emit(quire.quantize(graph, plan), tmp_path_factory.mktemp("hw") / "build")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, Stalls()),
        (0.3, Stalls(0.3, 0.3)),
        (0, Stalls()),
        (np.float32(0.5), Stalls(0.5, 0.5)),
        ((0.1, 0.2), Stalls(0.1, 0.2)),
        ([0.1, 0.2], Stalls(0.1, 0.2)),
        (Stalls(0.0, 0.4), Stalls(0.0, 0.4)),
    ],
)
def test_stalls_are_a_number_a_pair_or_a_record(given: Any, wanted: Stalls):
    assert Stalls.of(given) == wanted


def test_arguments_in_other_forms_mean_the_same(
    hw: Design, inputs: tuple[Tensor, Tensor], tmp_path: Path
):
    wanted = hw.simulate(*inputs, stalls=Stalls(0.3, 0.3), seed=5, probe=["a"])
    trained = tuple(x.double().requires_grad_() for x in inputs)
    file = tmp_path / "new" / "w.vcd"
    got = hw.simulate(
        *trained, stalls=0.3, seed=np.int64(5), probe="a", waveform=str(file), check=True
    )
    assert torch.equal(got.output, wanted.output)
    assert torch.equal(got.probes["a"], wanted.probes["a"])
    assert (got.cycles, got.traffic) == (wanted.cycles, wanted.traffic)
    assert got.compared == wanted.compared == 2 * SAMPLES
    assert file.read_text().startswith("$version")
    assert Waveform(str(file)) == Waveform(file, 200)


X, Y = (torch.ones(SAMPLES, k) for k in (4, 3))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((X,), "1 inputs for a design that has x, y"),
        ((X, Y, Y), "3 inputs for a design that has x, y"),
        ((X.numpy(), Y), "input x is a ndarray: give a float tensor (samples, 4)"),
        ((X, Y.tolist()), "input y is a list: give a float tensor (samples, 3)"),
        ((X, None), "input y is a NoneType: give a float tensor (samples, 3)"),
        ((X, X), f"input y has the shape ({SAMPLES}, 4): give (samples, 3)"),
        ((X[0], Y), "input x has the shape (4,): give (samples, 4)"),
        ((X[:0], Y[:0]), "input x has no samples: give 1 or more"),
        ((X, Y[:2]), f"inputs have [2, {SAMPLES}] samples: give each the same, 1 or more"),
        ((X.int(), Y), "input x: cannot quantize a tensor of dtype int32: convert it to one of"),
        ((X, Y * torch.nan), "input y: fixed(8,5) has no code for NaN, found first at position"),
    ],
)
def test_inputs_that_are_not_legal(hw: Design, x: tuple[Any, ...], message: str):
    with pytest.raises(QuireError, match=re.escape(message)):
        hw.simulate(*x)


PROBES = "give the name of a stream or stage, or a list of them"
PAUSES = "give how likely a pause is in a cycle, from 0 to below 1, as one number for both sides"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stalls": 1.0}, "stalls of sources are 1.0: give 0 to below 1"),
        ({"stalls": -0.1}, "stalls of sources are -0.1: give 0 to below 1"),
        ({"stalls": float("nan")}, "stalls of sources are nan: give 0 to below 1"),
        ({"stalls": (0.1, float("inf"))}, "stalls of sinks are inf: give 0 to below 1"),
        ({"stalls": (0.1, "0.2")}, "stalls of sinks are '0.2': give 0 to below 1"),
        ({"stalls": (0.1, 0.2, 0.3)}, f"stalls=(0.1, 0.2, 0.3): {PAUSES}"),
        ({"stalls": "often"}, f"stalls='often': {PAUSES}"),
        ({"seed": "a"}, "seed='a': give a whole number"),
        ({"seed": 1.5}, "seed=1.5: give a whole number"),
        ({"seed": None}, "seed=None: give a whole number"),
        ({"probe": "c"}, "probe='c' is no stream or stage: there are "),
        ({"probe": ["a", "c"]}, "probe='c' is no stream or stage: there are "),
        ({"probe": 3}, f"probe=3: {PROBES}"),
        ({"probe": [3]}, f"probe=[3]: {PROBES}"),
        ({"probe": None}, f"probe=None: {PROBES}"),
        ({"waveform": 3}, "a waveform at 3: give the path of a file"),
        ({"waveform": "."}, "the waveform's path '.' is a folder: name a file"),
        ({"waveform": "/dev/null/w.vcd"}, "no waveform can be written to '/dev/null/w.vcd': "),
    ],
)
def test_options_that_are_not_legal(hw: Design, options: dict[str, Any], message: str):
    with pytest.raises(QuireError, match=re.escape(message)):
        hw.simulate(X, Y, **options)
