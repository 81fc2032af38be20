"""`clip`: blocks are clamped before their cast, so that a smaller scale serves the rest better.

The largest value of a block sets its scale. Clamped to a share of it, that value has a larger error
and all others a smaller one. Of several shares each block takes the one with the least error, in
the sum of squares weighted by the mean square of the input that each weight meets (the clipping
search of AWQ, Lin et al. 2024, by blocks of any format). An activation gets the static scale
with the least squared error on its observed values in the same way (Nagel et al. 2021, "A white
paper on neural network quantization", section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quire.formats import Format
from quire.graph.sites import Site
from quire.precision.corrections.base import Correction, Option, Options
from quire.precision.corrections.layer import Layer
from quire.precision.corrections.products import WHERE, is_weight
from quire.precision.static_scale import has_real_scale, static_scale, without_nan

if TYPE_CHECKING:
    from quire.precision.entry import Entry

_FIXED_ROLES = ("weight", "bias", "constant", "table", "mask")


def clip_weight(layer: Layer, weight: Tensor, options: Options) -> Tensor:
    """The weight with each block clamped to the best share of its range."""
    importance = layer.moment.diagonal(dim1=-2, dim2=-1)[:, None]
    best, least = weight, _block_errors(layer, weight, importance)
    for share in _shares(options):
        clamped = _clamped(layer, weight, share)
        error = _block_errors(layer, clamped, importance)
        chosen = (error < least).expand_as(layer.by_block(weight))
        best = torch.where(layer.from_blocks(chosen), clamped, best)
        least = torch.minimum(least, error)
    return layer.better(best, weight)


def clip_scale(format: Format, values: Tensor, options: Options) -> float | tuple[float, float]:
    """The static scale with the least squared error on observed values."""
    values = without_nan(values)
    values = values[values.isfinite()].float()

    def error(scale: float | tuple[float, float]) -> float:
        rounded = format.quantize(values, scale=scale)
        return float((rounded - values).double().square().sum())

    low, high = (float(x) for x in values.aminmax()) if values.numel() else (0.0, 0.0)
    shares = [1.0, *_shares(options)]
    scales = [static_scale(format, values.clamp(s * low, s * high)) for s in shares]
    return min(scales, key=error)


def _shares(options: Options) -> Iterator[float]:
    """Shares of the range below 1, evenly spaced down to the lowest."""
    lowest, steps = options["lowest"], int(options["steps"])
    return (1 - (1 - lowest) * step / steps for step in range(1, steps + 1))


def _clamped(layer: Layer, weight: Tensor, share: float) -> Tensor:
    """The weight with each block clamped to a share of its range."""
    blocks = layer.by_block(weight)
    if layer.block is not None and layer.block.zero_point:
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    else:
        high = blocks.abs().amax(-1, keepdim=True)
        low = -high
    if layer.is_one_block:
        low, high = low.min(), high.max()
    return layer.from_blocks(blocks.clamp(share * low, share * high))


def _block_errors(layer: Layer, weight: Tensor, importance: Tensor) -> Tensor:
    """The error of each block, (groups, rows, blocks, 1), or of the only one, ()."""
    error = (layer.cast(weight).double() - layer.weight.double()).square() * importance
    blocks = layer.by_block(error).sum(-1, keepdim=True)
    return blocks.sum() if layer.is_one_block else blocks


def _takes(site: Site, entry: Entry) -> bool:
    if not entry.format.is_block or entry.scale is not None:
        return False
    if site.role == "weight":
        return is_weight(site, entry)
    is_data = bool(site.shape) and site.parameter is None and site.role not in _FIXED_ROLES
    return is_data and has_real_scale(entry.format)


CLIP = Correction(
    name="clip",
    where=f"blocks whose scale is found in the data: of {WHERE}, or of an activation with a real "
    "scale",
    takes=_takes,
    options={"lowest": Option(0.5, 0.05, 1.0), "steps": Option(20, 1, 1000)},
    weight=clip_weight,
    scale=clip_scale,
)
