"""What a plan costs on a device: bytes of the weights, and the time of a step's linear layers.

Times come from the measured table of kernels (`quire.software.kernels.table`), whose rows of the
format "bf16" are torch's own linear. A shape that was measured has its time; another lies on the
line through the measured shapes of its format, time against the bytes of the weight.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule

from quire.errors import KernelError
from quire.formats import parse
from quire.graph.sites import sites
from quire.ops.linear import ADDMM, LINEAR
from quire.precision.plan import Plan, resolve
from quire.software.assignment import assign, plan_of
from quire.software.kernels.table import PATH, Row, rows
from quire.software.mx.layout import format_of, row_blocks, row_bytes, supports
from quire.software.mx.linear import is_linear, weight_of
from quire.software.plans import PlanLike

BF16 = "bf16"
PRODUCTS = (LINEAR.name, ADDMM.name)


@dataclass(frozen=True)
class DeviceCost:
    """The cost of a plan on a device.

    memory: bytes of the parameters and buffers that the model holds there; weights in codes as the
        plain layout has them, everything else in the dtype of the model.
    microseconds: the predicted time of all linear layers in one step.
    error: the median relative error of the table's times when each shape is predicted from the
        others; what a step does besides its linear layers is not in it.
    """

    memory: int
    microseconds: float
    error: float

    def metrics(self) -> dict[str, float]:
        """The costs by name, for a search; a checkpoint's bytes have the name `memory` there."""
        return {"device_memory": float(self.memory), "microseconds": self.microseconds}


@dataclass(frozen=True)
class Layer:
    """A linear layer with a weight (n, k), and whether the tensor is its alone."""

    n: int
    k: int
    alone: bool


def weight_bytes(format: str, n: int, k: int) -> int:
    """Bytes of a weight (n, k) in codes and scales, or in bf16."""
    if format == BF16:
        return 2 * n * k
    block = format_of(format)
    return n * (row_bytes(block, k) + row_blocks(block, k))


@dataclass(frozen=True)
class Line:
    """Microseconds against bytes: `at(bytes)` = start + slope x bytes."""

    start: float
    slope: float

    def at(self, size: float) -> float:
        return self.start + self.slope * size


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line with the least squared relative error through (bytes, microseconds).

    Through the origin where one with positive coefficients does not fit the points.
    """
    sizes, times = np.array(points, dtype=float).T
    columns = np.stack([1 / times, sizes / times], axis=1)
    start, slope = np.linalg.lstsq(columns, np.ones_like(times), rcond=None)[0]
    if len(set(sizes)) < 2 or start < 0 or slope <= 0:
        return Line(0.0, float(np.median(times / sizes)))
    return Line(float(start), float(slope))


class Times:
    """The measured times of one device, and what they say of shapes that were not measured."""

    def __init__(self, measured: Iterable[Row]) -> None:
        self._best: dict[str, dict[int, dict[tuple[int, int], float]]] = {}
        for row in measured:
            shapes = self._best.setdefault(row.format, {}).setdefault(row.m, {})
            known = shapes.get((row.n, row.k), float("inf"))
            shapes[row.n, row.k] = min(known, row.microseconds)
        self._lines = {
            format: {m: _line(format, shapes) for m, shapes in by_m.items()}
            for format, by_m in self._best.items()
        }
        self._bits = {format: parse(format).bits for format in self._best}

    def nearest(self, format: str) -> str:
        """The format, if it was measured, else that of the nearest width."""
        if format in self._best:
            return format
        bits = parse(format).bits
        return min(self._bits, key=lambda measured: abs(self._bits[measured] - bits))

    def microseconds(self, format: str, m: int, n: int, k: int) -> float:
        """The time of a linear of m rows with a weight (n, k), between the measured m's."""
        measured = sorted(self._best[format])
        low = max((x for x in measured if x <= m), default=measured[0])
        high = min((x for x in measured if x >= m), default=measured[-1])
        first = self._at(format, low, n, k)
        if low == high:
            return first * max(1.0, m / high)  # beyond the largest: by arithmetic
        share = (log2(m) - log2(low)) / (log2(high) - log2(low))
        return first + share * (self._at(format, high, n, k) - first)

    def _at(self, format: str, m: int, n: int, k: int) -> float:
        exact = self._best[format][m].get((n, k))
        return self._lines[format][m].at(weight_bytes(format, n, k)) if exact is None else exact

    @cached_property
    def error(self) -> float:
        """The median relative error of each shape predicted from the others of its format and m."""
        errors: list[float] = []
        for format, by_m in self._best.items():
            for shapes in by_m.values():
                errors += [
                    abs(_line(format, rest).at(weight_bytes(format, *shape)) / time - 1)
                    for shape, time in shapes.items()
                    if (rest := {s: t for s, t in shapes.items() if s != shape})
                ]
        return statistics.median(errors) if errors else float("nan")


def _line(format: str, shapes: Mapping[tuple[int, int], float]) -> Line:
    return fit([(weight_bytes(format, n, k), time) for (n, k), time in shapes.items()])


class Weights:
    """The tensors of a model, and what plans make of them.

    model: a captured graph, or a live module (on "meta" too). dtype: of what is not in codes.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        self._model, self._width = model, dtype.itemsize
        self.layers = _graph_layers(model) if isinstance(model, GraphModule) else _layers(model)
        self._bytes = sum(_held_bytes(t, dtype) for t in (*model.parameters(), *model.buffers()))

    def formats(self, plan: PlanLike) -> dict[str, str]:
        """{layer: the format of its codes}; raises `PlanError` where a plan does not fit."""
        if not isinstance(self._model, GraphModule):
            found = assign(self._model, plan).swapped
            return {path: swap.weight.text for path, swap in found.items()}
        known = sites(self._model)
        weights = [name for name, layer in self.layers.items() if layer.alone]
        entries = resolve(plan_of(plan, weights), known)
        chosen = {name: entries.get(known[name].tie) for name in weights}
        return {n: entry.text for n, entry in chosen.items() if entry and supports(entry.format)}

    def memory(self, formats: Mapping[str, str]) -> int:
        """Bytes of all parameters and buffers, some layers being in codes."""
        held = self._bytes
        for name, format in formats.items():
            layer = self.layers[name]
            held -= self._width * layer.n * layer.k - weight_bytes(format, layer.n, layer.k)
        return held


def memory(model: nn.Module, plan: PlanLike, dtype: torch.dtype = torch.bfloat16) -> int:
    """The memory of `DeviceCost`, which needs no times."""
    weights = Weights(model, dtype)
    return weights.memory(weights.formats(plan))


class DeviceCostModel:
    """The device costs of plans for one model, prepared once.

    model, dtype: as of `Weights`.
    device: the name of a device in the table, such as "NVIDIA H200".
    batch: rows that a step multiplies by each weight.
    Raises `KernelError` for a device that the table does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.bfloat16,
        table: Path = PATH,
    ) -> None:
        measured = [row for row in rows(table) if row.op == "mx_linear"]
        names = dict.fromkeys(row.device for row in measured)
        if device not in names:
            known = ", ".join(names) or "none yet: `quire bench tune` measures this machine's"
            raise KernelError(f"no times of {device!r} in {table}; it has {known}")
        self.times = Times(row for row in measured if row.device == device)
        self._weights, self._batch = Weights(model, dtype), batch

    def __call__(self, plan: PlanLike) -> DeviceCost:
        """The cost of a plan; raises `PlanError` where it does not fit the model."""
        formats, layers = self._weights.formats(plan), self._weights.layers
        time = sum(self._time(formats.get(name, BF16), layer) for name, layer in layers.items())
        return DeviceCost(self._weights.memory(formats), time, self.times.error)

    def _time(self, format: str, layer: Layer) -> float:
        """The time of a layer; of a format without rows by that of the nearest width, by bytes."""
        near = self.times.nearest(format)
        time = self.times.microseconds(near, self._batch, layer.n, layer.k)
        if near == format:
            return time
        ours, theirs = (weight_bytes(f, layer.n, layer.k) for f in (format, near))
        return time * ours / theirs


def cost(
    model: nn.Module,
    plan: PlanLike,
    device: str,
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> DeviceCost:
    """The cost of one plan on a device. For many plans of one model, make a `DeviceCostModel`."""
    return DeviceCostModel(model, device, batch=batch, dtype=dtype)(plan)


def device_costs(
    device: str, *, batch: int = 1, dtype: torch.dtype = torch.bfloat16, table: Path = PATH
) -> Callable[[GraphModule], Callable[[Plan], dict[str, float]]]:
    """What `quire.search` takes as `costs`: `device_memory` and `microseconds` on a device."""

    def prepared(graph: GraphModule) -> Callable[[Plan], dict[str, float]]:
        model = DeviceCostModel(graph, device, batch=batch, dtype=dtype, table=table)
        return lambda plan: model(plan).metrics()

    return prepared


def _held_bytes(tensor: torch.Tensor, dtype: torch.dtype) -> int:
    width = dtype.itemsize if tensor.is_floating_point() else tensor.element_size()
    return tensor.numel() * width


def _layers(model: nn.Module) -> dict[str, Layer]:
    """The linear layers of a live model by path."""
    holders = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return {
        path: Layer(*weight_of(module).shape, alone=holders[id(module.weight)] == 1)
        for path, module in model.named_modules()
        if is_linear(module)
    }


def _graph_layers(graph: GraphModule) -> dict[str, Layer]:
    """The products of a captured graph with a weight, by the site of the weight."""
    known = sites(graph)
    holders = Counter(site.tie for site in known.values())
    return {
        name: Layer(site.elements // (k := site.shape[site.axis]), k, holders[site.tie] == 1)
        for name, site in known.items()
        if site.op in PRODUCTS and site.role == "weight" and isinstance(site.axis, int)
    }
