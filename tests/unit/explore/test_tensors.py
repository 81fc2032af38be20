"""Samples for the page: values in the unit of their format."""

import pytest
import torch

from quire.explore import Task, sample_tensors
from quire.precision import Plan


@pytest.mark.parametrize("name", ["mxint4", "mxfp4", "int4", "nvfp4"])
def test_values_over_their_scale_round_to_the_quantized_values(task: Task, name: str) -> None:
    plan = Plan({"0.weight": name, "2.weight": "fixed(4,2)"})
    block, scalar = sample_tensors(task, plan)
    fmt, grid = plan["0.weight"].format, torch.tensor(block["grid"])
    values = torch.tensor(block["values"])
    x = torch.cat([task.model.state_dict()["0.weight"].flatten()])
    nearest = grid[(values[: x.numel(), None] - grid).abs().argmin(1)]
    expected = fmt.element.quantize(values[: x.numel()].double())  # type: ignore[attr-defined]
    torch.testing.assert_close(nearest.double(), expected, atol=1e-6, rtol=0)
    ratio = x / values[: x.numel()]  # one scale for every 16 values
    runs = ratio[ratio.isfinite()].unique_consecutive()
    assert (ratio > 0).all()
    assert scalar["unit"] == ""
    assert scalar["grid"] == [i / 4 for i in range(-8, 8)]
    assert len(runs) >= 1


def test_wide_formats_have_no_grid(task: Task) -> None:
    plan = Plan({"0.weight": "mxint16", "2.weight": "mxint8"})
    assert [row["site"] for row in sample_tensors(task, plan)] == ["2.weight"]


def test_values_lie_on_a_grid_with_a_zero_point(task: Task) -> None:
    (row,) = sample_tensors(task, Plan({"0.weight": "uint8"}))
    assert min(row["grid"]) - 0.6 < min(row["values"])
    assert max(row["values"]) < max(row["grid"]) + 0.6
