"""What plans, graphs and checkpoints refuse, and that they say so in an error of Quire."""

import math
from pathlib import Path
from typing import Any

import pytest

import quire
from quire import Plan
from quire.errors import CaptureError, CheckpointError, PlanError
from quire.formats import parse
from quire.precision import Entry


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
    ):
        with pytest.raises(CaptureError, match="MLP is not a captured graph"):
            call(mlp.model)


def test_a_checkpoint_in_no_directory(mlp, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no directory"):
        quire.save(quire.quantize(mlp.graph, Plan()), tmp_path / "none" / "q.safetensors")


@pytest.mark.parametrize("header", [b"[]", b'{"a":5}', b"5"])
def test_a_header_that_is_no_checkpoint(mlp, tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "q.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"q.safetensors: not a checkpoint of Quire"):
        quire.load(mlp.model, path)
