"""Samples of the tensors at a plan's sites, in the unit of their format's values, for a page."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quire.explore.task import Task
from quire.formats import Block, Format
from quire.graph import capture
from quire.precision import Plan
from quire.precision.calibrate import observe

SAMPLE = 4096  # values of a tensor
GRID = 1 << 10  # of a format with more values, the grid is no picture


def sample_tensors(
    task: Task, plan: Plan, names: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """For each named site of the plan (default: all), values of its tensor and of its format.

    Values come from the calibration data of the task. Where the format has blocks, each is divided
    by the scale of its block, the blocks running through the sample in memory order. Sites whose
    format has more than 2^10 values are left out.
    """
    chosen = [name for name in (plan if names is None else names) if plan[name].format.bits <= 10]
    graph = capture(task.model, task.example_inputs)
    data = task.example_inputs if task.calibration is None else task.calibration
    tensors = observe(graph, data, chosen)
    return [_row(name, plan[name].format, tensors[name]) for name in chosen if name in tensors]


def _row(name: str, fmt: Format, tensor: Tensor) -> dict[str, Any]:
    x = tensor[:SAMPLE].float()
    element = fmt.element if isinstance(fmt, Block) else fmt
    values = x / _scales(fmt, x) if isinstance(fmt, Block) else x
    return {
        "site": name,
        "format": str(fmt),
        "unit": "block scale" if isinstance(fmt, Block) else "",
        "values": values[values.isfinite()].tolist(),
        "grid": element.values().tolist(),  # type: ignore[attr-defined]
    }


def _scales(fmt: Block, x: Tensor) -> Tensor:
    """The scale of each value's block."""
    encoded = fmt.encode(x, 0)
    assert encoded.scales is not None
    scales = fmt.scale.values_of(encoded.scales.long()).flatten()
    if encoded.tensor_scale is not None:
        scales = scales * encoded.tensor_scale
    size = x.numel() if isinstance(fmt.size, str) else fmt.size
    return scales.repeat_interleave(size)[: x.numel()].to(torch.float32)
