"""`gptq`: columns are rounded one after the other, and those to come make up for the error.

Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative pre-trained
transformers": with H the second moment of the inputs and U the upper Cholesky factor of its
inverse, the error e of column j, divided by U_jj, is taken off the later columns in proportion to
row j of U. Here for any format: columns are rounded by `Format.quantize`, and a block takes its
scale from what its columns have become when the first of them is rounded.

The graph will find the scales in the result again. A power of two is found as it was, or a smaller
one that holds the same values. A real scale is found where the block's largest element keeps the
largest code, so that element is pinned to it (both ends of a block with a zero point), and
the columns to come make up for that too. Rows in which the result, cast as the graph
casts it, is no better than the weight before stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quire.formats import Block
from quire.formats.base import StaticScale
from quire.formats.layout import WHOLE_AXIS, WHOLE_TENSOR, split_blocks
from quire.precision.corrections.base import Correction, Option, Options
from quire.precision.corrections.layer import Layer
from quire.precision.corrections.products import WHERE, is_weight
from quire.precision.static_scale import has_real_scale

WIDTH = 128
"""Columns after which the others are brought up to date in one product, as in the paper."""


def compensate(layer: Layer, weight: Tensor, options: Options) -> Tensor:
    """The weight with each column rounded and its error taken off the later ones."""
    factor = inverse_factor(layer.moment, options["damp"])
    rest = layer.weight.double()
    shift = weight.double() - rest  # what an earlier correction changed sets the scales too
    rounded = torch.empty_like(rest)
    tensor_scale = _tensor_scale(layer, weight)
    step = WIDTH if layer.block is None else layer.size
    length = rest.shape[-1]
    for start in range(0, length, step):
        stop = min(start + step, length)
        block = (rest + shift)[..., start:stop].to(weight.dtype)
        grid = _grid(layer, block, tensor_scale)
        for first in range(start, stop, WIDTH):
            last = min(first + WIDTH, stop)
            errors = _round_columns(grid, rest, rounded, factor, first, last, start)
            rest[..., last:] -= errors @ factor[:, first:last, last:]
    return layer.better(rounded.to(weight.dtype), weight)


def inverse_factor(moment: Tensor, damp: float) -> Tensor:
    """The upper Cholesky factor of the inverse of a second moment, damped.

    moment: (groups, length, length), float64. damp: the share of the mean of its diagonal that is
    added to the diagonal; an input that is always zero is treated as if only that were there.
    """
    mean = moment.diagonal(dim1=-2, dim2=-1).mean(-1)
    added = torch.where(mean > 0, damp * mean, 1.0)
    eye = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment + added[:, None, None] * eye))
    return torch.linalg.cholesky(inverse, upper=True)


@dataclass(frozen=True)
class _Grid:
    """What columns of a block are rounded to.

    scale: that of the block, or None. pins: of the shape of the block, Inf with a sign where an
    element is to have its largest or smallest code, else zero; None for no such element.
    """

    layer: Layer
    scale: StaticScale
    pins: Tensor | None

    def round(self, column: Tensor, index: int) -> Tensor:
        """A column (groups, rows) of the block, float64, rounded."""
        if self.pins is not None:
            pin = self.pins[..., index]
            column = torch.where(pin == 0, column, pin)
        values = column[..., None].to(self.layer.weight.dtype)
        rounded = self.layer.format.quantize(values, -1, scale=self.scale)
        return rounded[..., 0].double()


def _round_columns(
    grid: _Grid, rest: Tensor, rounded: Tensor, factor: Tensor, first: int, last: int, start: int
) -> Tensor:
    """Round columns `first` to `last` of a block that begins at `start`, in place.

    Returns their errors over the diagonal of the factor, (groups, rows, columns).
    """
    errors = torch.empty_like(rest[..., first:last])
    for j in range(first, last):
        rounded[..., j] = grid.round(rest[..., j], j - start)
        error = (rest[..., j] - rounded[..., j]) / factor[:, j, j, None]
        rest[..., j + 1 : last] -= error[..., None] * factor[:, None, j, j + 1 : last]
        errors[..., j - first] = error
    return errors


def _grid(layer: Layer, block: Tensor, tensor_scale: Tensor | None) -> _Grid:
    """The grid of a block (groups, rows, size) as the cast finds it."""
    format, whole = layer.block, layer.is_one_block
    if format is None:
        return _Grid(layer, layer.scale, None)
    carried = block.to(format.carrier(block.dtype).dtype)
    (blocks,) = split_blocks(carried, 2, WHOLE_TENSOR if whole else WHOLE_AXIS)
    found = format.rule.find(blocks, tensor_scale)
    second = found.zero_point if format.zero_point else tensor_scale
    first, *rest = (p.reshape(()) if whole else p for p in (found.scale, second) if p is not None)
    scale = (first, rest[0]) if rest else first
    return _Grid(layer, scale, _pins(block, format) if has_real_scale(format) else None)


def _pins(block: Tensor, format: Block) -> Tensor:
    """Where the ends of blocks are, as Inf with a sign."""
    shape = (1, 1, -1) if format.size == WHOLE_TENSOR else (*block.shape[:-1], -1)
    flat = block.reshape(shape)
    pins = torch.zeros_like(flat)
    low, high = flat.argmin(-1, keepdim=True), flat.argmax(-1, keepdim=True)
    if not format.zero_point:
        low = high = flat.abs().argmax(-1, keepdim=True)
    for end, sign in ((low, -1.0), (high, 1.0)):
        beyond = sign * flat.gather(-1, end) > 0  # a range that ends at zero keeps that end
        pins.scatter_(-1, end, torch.where(beyond, sign * torch.inf, pins.gather(-1, end)))
    return pins.view_as(block)


def _tensor_scale(layer: Layer, weight: Tensor) -> Tensor | None:
    """The scale of the whole weight below which those of its blocks lie, where there is one."""
    format = layer.block
    if format is None:
        return None
    return format.rule.tensor_scale(weight.to(format.carrier(weight.dtype).dtype))


GPTQ = Correction(
    name="gptq",
    where=WHERE,
    takes=is_weight,
    options={"damp": Option(0.01, 1e-6, 1.0)},
    weight=compensate,
)
