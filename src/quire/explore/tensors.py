"""Samples of the tensors at a plan's sites, in the unit of their format's values, for a page."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from quire.explore.task import Task
from quire.formats import Format
from quire.graph import capture
from quire.precision import Plan
from quire.precision.calibrate import observe
from quire.precision.normalized import grid, to_grid

SAMPLE = 4096  # values of a tensor
WIDEST_GRID = 10  # bits; of a wider element, the grid is no picture


def sample_tensors(
    task: Task, plan: Plan, names: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """For each named site of the plan (default: all), values of its tensor and of its format.

    Values come from the calibration data of the task. Where the format has blocks, each is divided
    by the scale of its block and moved by its zero point, the blocks running through the sample in
    memory order. Sites whose format has more than 2^10 values are left out.
    """
    wanted = plan if names is None else names
    chosen = [name for name in wanted if plan[name].format.bits <= WIDEST_GRID]
    graph = capture(task.model, task.example_inputs)
    data = task.example_inputs if task.calibration is None else task.calibration
    tensors = observe(graph, data, chosen)
    return [_row(name, plan[name].format, tensors[name]) for name in chosen if name in tensors]


def _row(name: str, fmt: Format, tensor: Tensor) -> dict[str, Any]:
    return {
        "site": name,
        "format": str(fmt),
        "unit": "block scale" if fmt.is_block else "",
        "values": to_grid(fmt, tensor[tensor.isfinite()][:SAMPLE]).tolist(),
        "grid": list(grid(fmt, WIDEST_GRID)),
    }
