"""What plans, graphs and checkpoints refuse, and that they say so in an error of Quire."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import quire
from quire import Plan
from quire.errors import CaptureError, CheckpointError, PlanError
from quire.formats import parse
from quire.precision import Entry, Switchable, calibrate


@pytest.mark.parametrize("value", [3, None, 1.5])
def test_what_is_no_format(mlp, value: Any) -> None:
    with pytest.raises(PlanError, match=r"a: .* is no format"):
        Plan()["a"] = value
    with pytest.raises(PlanError, match="is no format"):
        Plan.uniform(mlp.graph, value)


@pytest.mark.parametrize("scale", [["x"], -1, math.nan, [1.0, math.inf], [], [1, 2, 3]])
def test_what_is_no_scale(mlp, scale: Any) -> None:
    data = {"version": 1, "entries": {"fc1.weight": {"format": "int8", "scale": scale}}}
    with pytest.raises(PlanError, match=r"fc1.weight: scale=.* give a finite number"):
        Plan.from_json(data)
    given = tuple(scale) if isinstance(scale, list) else scale
    with pytest.raises(PlanError, match=r"fc1.weight.* give a finite number"):
        Plan({"fc1.weight": Entry(parse("int8"), scale=given)}).check(mlp.graph)


@pytest.mark.parametrize("axis", [(1, 3), (3, 1), (), (1, 1)])
def test_axes_are_ascending_neighbours(cnn, axis: Any) -> None:
    plan = Plan({"conv2.weight": Entry(parse("mxint4"), axis)})
    with pytest.raises(PlanError, match="ascending neighbours"):
        plan.check(cnn.graph)


def test_a_model_that_was_not_captured(mlp) -> None:
    for call in (
        quire.sites,
        lambda m: quire.quantize(m, Plan()),
        lambda m: Plan.uniform(m, "bf16"),
        quire.exact,
        lambda m: quire.save(m, "q.safetensors"),
    ):
        with pytest.raises(CaptureError, match="MLP is not a captured graph"):
            call(mlp.model)


def test_a_checkpoint_in_no_directory(mlp, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no directory"):
        quire.save(quire.quantize(mlp.graph, Plan()), tmp_path / "none" / "q.safetensors")
    with pytest.raises(CheckpointError, match="this is a directory; name a file"):
        quire.save(quire.quantize(mlp.graph, Plan()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_mapping_of_sites(mlp) -> None:
    for made in (["fc1.weight"], "mxint4", 3):
        with pytest.raises(PlanError, match=r"is no \{site: format\}, such as"):
            Plan(made)  # type: ignore[arg-type]
        with pytest.raises(PlanError, match=r"is no \{site: format\}, such as"):
            Plan.from_patterns(mlp.graph, made)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="3 is no name of a site"):
        Plan({3: "mxint4"})  # type: ignore[dict-item]


@pytest.mark.parametrize("plan", [{"fc1.weight": "mxint4"}, "mxint4", None])
def test_what_is_no_plan(mlp, plan: Any) -> None:
    for call in (
        lambda: quire.quantize(mlp.graph, plan),
        lambda: quire.cost(mlp.graph, plan),
        lambda: Switchable(mlp.graph).use(plan),
        lambda: calibrate(mlp.graph, (mlp.x,), plan),
    ):
        with pytest.raises(PlanError, match=r"the plan is a \w+: give a quire.Plan"):
            call()


@pytest.mark.parametrize("axis", [0, -2, (0, 1)])
def test_no_block_runs_across_examples(mlp, axis: Any) -> None:
    plan = Plan({"fc1.input": Entry(parse("mxint8"), axis)})
    words = r"fc1.input, input of linear, has its batch along axis .*; legal axes: 1$"
    with pytest.raises(PlanError, match=words):
        plan.check(mlp.graph)
    for legal in (Entry(parse("mxint8"), 1), Entry(parse("fixed(8,4)"), axis)):
        Plan({"fc1.input": legal, "fc1.weight": Entry(parse("mxint8"), axis)}).check(mlp.graph)


class Score(torch.nn.Module):
    """One number for an example."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(dim=1)


def test_a_number_an_example_has_no_blocks() -> None:
    graph = quire.capture(Score(), (torch.randn(3, 8),))
    with pytest.raises(PlanError, match="legal axes: none, so take a format without blocks"):
        Plan({"output.0": "mxint8"}).check(graph)
    assert "output.0" not in Plan.uniform(graph, "mxint8", "all")
    assert "output.0" in Plan.uniform(graph, "fixed(8,4)", "all")


@pytest.mark.parametrize("header", [b"[]", b'{"a":5}', b"5"])
def test_a_header_that_is_no_checkpoint(mlp, tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "q.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"q.safetensors: not a checkpoint of Quire"):
        quire.load(mlp.model, path)
