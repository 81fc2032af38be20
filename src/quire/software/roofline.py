"""Linear layers in codes against what memory and arithmetic allow, measured and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from quire.errors import KernelError
from quire.software import bench
from quire.software.bench import Held, Limits, Product
from quire.software.kernels import case_of, select


@dataclass(frozen=True)
class Point:
    """A measured product: microseconds in codes, in bf16, and at the limit of the device.

    bytes: that are moved at least. bound: "memory" or "arithmetic", whichever sets the limit.
    """

    product: Product
    format: str
    microseconds: float
    bfloat16: float
    limit: float
    bytes: int
    bound: str
    kernel: str

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.product.operations / self.bytes

    @property
    def speed(self) -> float:
        """Operations a second."""
        return 1e6 * self.product.operations / self.microseconds


def measure(products: Iterable[Product], formats: Sequence[str], limits: Limits) -> list[Point]:
    """A point for each product and format, on this machine's CUDA device."""
    held = cache(bench.held_weight)
    return [
        point(product, held(format, product.n, product.k), limits, bfloat16)
        for product in products
        for bfloat16 in [bench.time_bfloat16(product)]
        for format in formats
    ]


def point(product: Product, held: Held, limits: Limits, bfloat16: float) -> Point:
    """Measure one product by the kernel that the table names."""
    weight = bench.weight_bytes(held.format, product.n, product.k)
    moved, limit = product.bytes(weight), limits.microseconds(product, weight)
    return Point(
        product,
        str(held.format),
        bench.time_linear(held, product.m),
        bfloat16,
        limit,
        moved,
        "memory" if limit <= 1e6 * moved / limits.bandwidth else "arithmetic",
        _kernel(product, held),
    )


def _kernel(product: Product, held: Held) -> str:
    case = case_of(held.plain.codes.device, held.format, *product, torch.bfloat16)
    kernel = select("mx_linear", case, held.layout)
    return kernel.name if kernel else "none"


def figure(points: Sequence[Point], limits: Limits) -> dict[str, Any]:
    """A Plotly figure: operations a second over operations a byte, below the roof."""
    ridge = limits.arithmetic / limits.bandwidth
    across = [1.0, ridge, 100 * ridge]
    roof = [min(limits.arithmetic, x * limits.bandwidth) / 1e12 for x in across]
    line = {"x": across, "y": roof, "mode": "lines", "name": "limit", "line": {"color": "#555"}}
    axes = {"x": "operations a byte", "y": "TFLOP/s"}
    layout = {f"{k}axis": {"type": "log", "title": {"text": text}} for k, text in axes.items()}
    formats = dict.fromkeys(point.format for point in points)
    return {"data": [line, *(_trace(f, points) for f in formats)], "layout": layout}


def _trace(format: str, points: Sequence[Point]) -> dict[str, Any]:
    own = [point for point in points if point.format == format]
    return {
        "x": [point.intensity for point in own],
        "y": [point.speed / 1e12 for point in own],
        "text": [f"{point.product}: {point.microseconds:.1f} us" for point in own],
        "mode": "markers",
        "name": format,
    }


def write_page(points: Sequence[Point], limits: Limits, path: Path) -> None:
    """Write the picture as a page that needs no network; raises `KernelError` without Plotly."""
    if find_spec("plotly") is None:
        raise KernelError("a roofline is drawn with Plotly: pip install 'quire[report]'")
    from plotly import graph_objects

    graph_objects.Figure(figure(points, limits)).write_html(str(path), include_plotlyjs=True)
