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


def emitted(folder: Path, model: nn.Module, example: Any, data: Any) -> Design:
    """The design of a model in fixed(8,5), read back from its folder with the graph."""
    torch.manual_seed(0)
    graph = quire.capture(model, example)
    plan = quire.Plan.uniform(graph, "fixed(8,5)").for_hardware(graph, data, quiet=True)
    q = quire.quantize(graph, plan)
    quire.emit(q, folder)
    return Design.load(folder, q)


class Nested(nn.Module):
    """Inputs in a dict, outputs in a dict, one of them twice and one that is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        y = self.b(batch["y"])
        return {"sum": self.a(batch["x"]) + y, "parts": [y, y], "x": batch["x"]}


def test_inputs_and_outputs_may_be_nested(inputs: tuple[Tensor, Tensor], tmp_path: Path):
    batch = dict(zip("xy", inputs, strict=True))
    design = emitted(tmp_path / "out", Nested(), (batch,), (batch,))
    run = design.simulate(*inputs)
    assert design.graph is not None
    wanted = quire.exact(design.graph)(batch)
    total, first, second, x = run.outputs
    assert torch.equal(total, wanted["sum"])
    assert torch.equal(first, wanted["parts"][0])
    assert torch.equal(second, wanted["parts"][1])
    assert torch.equal(x, wanted["x"])
    assert run.compared == SAMPLES * (2 + 2 + 2 + 4)


class OneNumber(nn.Module):
    """One number a sample in, one out, neither with an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x.unsqueeze(-1)))).squeeze(-1)


def test_one_number_a_sample_is_a_row_of_one(tmp_path: Path):
    x = torch.linspace(-2, 2, 9)
    design = emitted(tmp_path / "out", OneNumber(), (x[:2],), (x,))
    assert design.inputs[0].shape == design.outputs[0].shape == (1,)
    assert design.graph is not None
    wanted = quire.exact(design.graph)(x)
    for given in (x, x[:, None]):
        run = design.simulate(given)
        assert torch.equal(run.output, wanted[:, None])
        assert run.compared == len(x)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (nn.Linear(4, 2), (X,), "takes samples of (4), and the design has (4) and (3): give"),
        (Nested(), ({"x": X, "y": Y},), "gives samples of (2) and (2) and (2) and (4), and the"),
    ],
)
def test_a_graph_of_another_model_is_refused(
    hw: Design, model: nn.Module, example: Any, message: str
):
    assert hw.folder is not None
    with pytest.raises(QuireError, match=re.escape(message)):
        Design.load(hw.folder, quire.capture(model, example))


def test_a_graph_of_another_plan_is_what_a_difference_hints_at(
    hw: Design, inputs: tuple[Tensor, Tensor]
):
    assert hw.folder is not None
    other = quire.capture(Twice(), inputs)
    with pytest.raises(QuireError, match="if its plan or its weights changed since"):
        Design.load(hw.folder, other).simulate(*inputs)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes of add_6 are no whole samples of "),
        (b"abc", "3 bytes of add_6 are no whole samples of "),
        ("text", "output add_6 is a str: give its bytes, "),
    ],
)
def test_bytes_that_are_no_samples(hw: Design, data: Any, message: str):
    with pytest.raises(QuireError, match=re.escape(message)):
        hw.decode(data)


def test_tables_one_after_the_other_keep_their_words(tmp_path: Path):
    # The plan gives the result of the first function formats, so that they are not one table.
    x = torch.linspace(-3, 3, 96).reshape(-1, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Tanh(), nn.Linear(4, 2))
    design = emitted(tmp_path / "out", model, (x[:2],), (x,))
    tables = [memory for memory in design.memories if "table" in memory.name]
    assert [memory.name for memory in tables] == ["m0__table", "m0__table_2"]
    assert tables[0].words != tables[1].words
    assert design.simulate(x).compared == 2 * len(x)
