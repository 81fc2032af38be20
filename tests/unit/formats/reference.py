"""Blocks again, from docs/numerics.md alone: one block at a time, in numpy and exact fractions.

Elements and scales round on the grids of `grid.py`; the scale rules are written out here and share
nothing with `quire.formats.scaling`.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor, frexp

import ml_dtypes
import numpy as np
import torch
from tests.unit.formats.grid import Grid, grid_of

from quire.formats import Binary, Block, Pow2, Ternary, presets

FLOAT32_MAX = np.finfo(np.float32).max
NUMPY = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
}


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """The tensor in numpy: bf16 and fp16 as float32, which holds them."""
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).detach().numpy()


def element_grid(fmt: Block) -> Grid:
    """The element's grid as an encoder uses it: symmetric, unless it is unsigned."""
    grid = grid_of(fmt.element)
    return grid.between(-grid.values[-1], grid.values[-1]) if grid.values[0] < 0 else grid


def rounded_to(fmt, value: np.floating) -> np.floating:
    """A scale rounded into its format, in the type in which it was computed."""
    if fmt == presets["fp32"]:
        with np.errstate(over="ignore"):
            narrow = np.float32(value)
        narrow = np.clip(narrow, -FLOAT32_MAX, FLOAT32_MAX) if np.isfinite(value) else narrow
        return type(value)(narrow)
    return type(value)(grid_of(fmt).round(np.array([value], np.float64))[0])


def product(scale: np.floating, elements: np.ndarray) -> np.ndarray:
    """scale * element, exact in float64 and rounded once to float32, saturating."""
    exact = np.float64(scale) * elements.astype(np.float64)
    return np.clip(exact, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)


def power_of_two(fmt: Block, x: np.ndarray) -> np.ndarray:
    grid = element_grid(fmt)
    largest = float(np.abs(x).max())
    if not np.isfinite(largest):
        return np.full(x.shape, np.nan)
    if largest == 0:
        return np.zeros(x.shape)
    scales = [fmt.scale.values()[0].item(), fmt.scale.values()[-1].item()]
    low, high = (frexp(s)[1] - 1 for s in scales)
    top_exponent = frexp(grid.values[-1])[1] - 1
    exponent = min(max(frexp(largest)[1] - 1 - top_exponent, low), high)
    elements = grid.round(np.ldexp(x.astype(np.float64), -exponent))
    return np.ldexp(elements, exponent)


def mean_magnitude(x: np.ndarray) -> np.floating:
    """sum floor(|x| 2^(30-X)) / (n 2^(30-X)), rounded once to float32 (float64 for float64)."""
    exponent = frexp(float(np.abs(x).max()))[1] - 1
    unit = Fraction(2) ** (30 - exponent)
    total = sum(floor(abs(Fraction(float(v))) * unit) for v in x)
    mean = total / (len(x) * unit)
    return np.float64(mean) if x.dtype == np.float64 else nearest_float32(mean)


def nearest_float32(value: Fraction) -> np.float32:
    near = np.float32(float(value))
    with np.errstate(over="ignore"):
        sides = [np.nextafter(near, np.float32(end)) for end in (0, np.inf)]
    candidates = [c for c in (near, *sides) if np.isfinite(c)]
    # Nearest; of two equally near the one with the even significand.
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - value), c.view(np.int32) & 1))


def real(fmt: Block, x: np.ndarray) -> np.ndarray:
    grid = element_grid(fmt)
    largest = np.abs(x).max()
    if not np.isfinite(largest):
        return np.full(x.shape, np.nan)
    if largest == 0:
        return np.zeros(x.shape)
    if isinstance(fmt.element, Binary):
        ideal = mean_magnitude(x)
    elif isinstance(fmt.element, Ternary):
        ideal = largest
    else:
        ideal = largest / x.dtype.type(grid.values[-1])
    scale = rounded_to(fmt.scale, ideal)
    return np.zeros(x.shape) if scale == 0 else product(scale, grid.round(ieee_quotient(x, scale)))


def ieee_quotient(x: np.ndarray, scale: np.floating) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return (x / scale).astype(np.float64)


def tensor_scale(x: np.ndarray) -> np.floating:
    """t = fp32(max|x| / 2688), over what is finite: a bad value harms its own block only."""
    finite = np.abs(x[np.isfinite(x)])
    largest = finite.max() if finite.size else x.dtype.type(0)
    return rounded_to(presets["fp32"], largest / x.dtype.type(2688))


def two_level(fmt: Block, x: np.ndarray, t: np.floating) -> np.ndarray:
    grid = element_grid(fmt)
    largest = np.abs(x).max()
    if not np.isfinite(largest):
        return np.full(x.shape, np.nan)
    if t == 0:
        return np.zeros(x.shape)
    with np.errstate(over="ignore"):
        scale = rounded_to(fmt.scale, (largest / x.dtype.type(6)) / t)
    r = x.dtype.type(product(scale, np.array(t)))
    return np.zeros(x.shape) if r == 0 else product(r, grid.round(ieee_quotient(x, r)))


def affine(fmt: Block, x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        return np.full(x.shape, np.nan)
    low, high = min(x.dtype.type(0), x.min()), max(x.dtype.type(0), x.max())
    top = fmt.element.highest
    with np.errstate(over="ignore"):
        span = min(high - low, np.finfo(x.dtype).max)
    scale = rounded_to(fmt.scale, span / x.dtype.type(top))
    if scale == 0:
        return np.zeros(x.shape)
    zero = np.clip(np.rint(ieee_quotient(-low, scale)), 0, top)
    codes = np.clip(np.rint(ieee_quotient(x, scale)) + zero, 0, top)
    return product(scale, codes - zero)


def quantized_block(fmt: Block, x: np.ndarray, t: np.floating | None) -> np.ndarray:
    """One block (1-d), as float64 values."""
    if isinstance(fmt.scale, Pow2):
        return power_of_two(fmt, x)
    if fmt.tensor_scale:
        return two_level(fmt, x, t)
    return affine(fmt, x) if fmt.zero_point else real(fmt, x)


def quantized(fmt: Block, x: torch.Tensor, axis: int = -1) -> np.ndarray:
    """`fmt.quantize(x, axis)`, as float64 values of x's dtype."""
    values = to_numpy(x)
    t = tensor_scale(values) if fmt.tensor_scale else None
    rows = np.moveaxis(values.reshape(values.shape or (1,)), axis, -1)
    if fmt.size == "tensor":
        rows = values.reshape(1, -1)
    n = rows.shape[-1]
    size = fmt.size if isinstance(fmt.size, int) else n
    out = np.empty(rows.shape)
    for row in np.ndindex(rows.shape[:-1]):
        for start in range(0, n, size):
            block = rows[row][start : start + size]
            out[row][start : start + size] = quantized_block(fmt, block, t)
    if fmt.size != "tensor":
        out = np.moveaxis(out, -1, axis)
    return in_dtype(out.reshape(values.shape), x.dtype)


def in_dtype(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Rounded once more into the tensor's dtype, saturating."""
    largest = torch.finfo(dtype).max
    return np.clip(values, -largest, largest).astype(NUMPY[dtype]).astype(np.float64)
