"""The registry of kernels: who can run an op of `quire.software.mx`, and which one does.

A provider is a module of this package that calls `register` and `register_layout` when it is
imported. Which kernel runs a case is what `table.json` measured; without a row that applies, the
first registered that supports the case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quire.formats import Format
from quire.software.kernels.table import Row, nearest

PLAIN = "plain"
"""The layout of `quire.software.mx.layout`, which every op takes."""

PROVIDERS = {"cuda": "torch", "triton": "triton", "reference": "torch"}
"""{module of this package: the package that it needs}, the preferred first."""


@dataclass(frozen=True)
class Case:
    """What an op is asked for, as far as the choice of a kernel depends on it.

    device: the name of a CUDA device, such as "NVIDIA H200"; "cpu" for the CPU.
    capability: its compute capability, such as (9, 0); None on the CPU.
    m: rows of the activation, or of the tensor that is quantized or dequantized.
    n: output features of a linear; 0 for the other ops.
    k: the length of a row (input features).
    dtype: of the activation, or of the tensor of floating-point numbers.
    """

    device: str
    capability: tuple[int, int] | None
    format: Format
    m: int
    n: int
    k: int
    dtype: torch.dtype


class Weight(NamedTuple):
    """A weight (n, k) in a layout.

    codes, scales: uint8; of the plain layout (n, ceil(k * bits / 8)) and (n, ceil(k / size)).
    row_scale: what a layout of a device keeps for each row besides, or None.
    """

    codes: Tensor
    scales: Tensor
    row_scale: Tensor | None = None


@dataclass(frozen=True)
class Kernel:
    """One way to run an op.

    op: "mx_quantize", "mx_dequantize" or "mx_linear".
    run: mx_quantize: (x (m, k), format) -> (codes, scales), plain;
        mx_dequantize: (codes (m, bytes), scales, format, k, dtype) -> (m, k), of plain codes;
        mx_linear: (x (m, k), weight, bias (n,) or None, format, n) -> (m, n) in x's dtype.
        Every tensor is contiguous and on one device.
    layout: the layout of the weight that it takes.
    """

    name: str
    op: str
    supports: Callable[[Case], bool]
    run: Callable[..., Any]
    layout: str = PLAIN


@dataclass(frozen=True)
class Layout:
    """A layout in which a device holds a weight instead of the plain one; it is never saved.

    supports: of a case with m = 1; the dtype is that of the activations to come.
    tile: (plain weight, format, k, dtype) -> weight in this layout, or None for one with codes or
        scales that it does not hold.
    untile: (weight, format, n, k, dtype) -> the plain weight, the exact inverse.
    """

    name: str
    supports: Callable[[Case], bool]
    tile: Callable[[Weight, Format, int, torch.dtype], Weight | None]
    untile: Callable[[Weight, Format, int, int, torch.dtype], Weight]


KERNELS: dict[str, Kernel] = {}
LAYOUTS: dict[str, Layout] = {}


def register(kernel: Kernel) -> Kernel:
    """Add a kernel; of two with one name the later counts."""
    KERNELS[kernel.name] = kernel
    _chosen.cache_clear()
    return kernel


def register_layout(layout: Layout) -> Layout:
    """Add a layout of a device; of two with one name the later counts."""
    LAYOUTS[layout.name] = layout
    return layout


@cache
def load_providers() -> None:
    """Import every provider whose package is installed."""
    for name, needs in PROVIDERS.items():
        module = f"{__name__}.{name}"
        if find_spec(needs) and find_spec(module):
            import_module(module)


@cache
def device_name(device: torch.device) -> tuple[str, tuple[int, int] | None]:
    """The name and the compute capability of a device."""
    if device.type != "cuda":
        return device.type, None
    return torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)


def case_of(device: torch.device, format: Format, m: int, n: int, k: int, dtype: Any) -> Case:
    """The case of an op on a device."""
    name, capability = device_name(device)
    return Case(name, capability, format, m, n, k, dtype)


def select(op: str, case: Case, layout: str = PLAIN) -> Kernel | None:
    """The kernel that runs a case on a weight in a layout, or None; plain always has one."""
    load_providers()
    return _chosen(op, case, layout)


@cache
def _chosen(op: str, case: Case, layout: str) -> Kernel | None:
    able = {
        kernel.name: kernel
        for kernel in KERNELS.values()
        if kernel.op == op and kernel.layout == layout and kernel.supports(case)
    }
    row = nearest(op, case, able) if len(able) > 1 else None
    return able[row.kernel] if row else next(iter(able.values()), None)


def select_layout(case: Case) -> Layout | None:
    """The layout in which a device holds a weight, or None for the plain one."""
    load_providers()
    return next((layout for layout in LAYOUTS.values() if layout.supports(case)), None)


__all__ = [
    "KERNELS",
    "LAYOUTS",
    "PLAIN",
    "Case",
    "Kernel",
    "Layout",
    "Row",
    "Weight",
    "case_of",
    "load_providers",
    "register",
    "register_layout",
    "select",
    "select_layout",
]
