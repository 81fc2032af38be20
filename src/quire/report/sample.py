"""A tensor's elements in the unit of its format's grid, as the distribution plot shows them."""

import torch
from torch import Tensor

from quire.formats import Block, Format, Scalar, parse
from quire.report.results import TensorRecord

SAMPLE = 4096
WIDEST_GRID = 10  # bits; the ticks of a wider element would be a solid band


def sample(
    site: str, text: str, x: Tensor, axis: int | tuple[int, ...] = -1, size: int = SAMPLE
) -> TensorRecord:
    """The record of a tensor of any shape, quantized to the format `text` along `axis`.

    At most `size` elements are kept, evenly spaced. With blocks an element is divided by the scale
    of its block (and moved by its zero point), so that all share the grid of the format's element.
    Several axes are adjacent ones, flattened into one, as in a convolution's weight.
    """
    form = parse(text)
    x = x.detach().cpu().double()
    if isinstance(axis, tuple):
        x, axis = x.flatten(axis[0], axis[-1]), axis[0]
    values = _in_block_scales(form, x, axis) if isinstance(form, Block) else x
    kept = values.flatten()[torch.linspace(0, max(values.numel() - 1, 0), size).long().unique()]
    unit = "block scale" if form.is_block else ""
    return TensorRecord(site, text, tuple(kept.tolist()), _grid(form), unit)


def _in_block_scales(form: Block, x: Tensor, axis: int) -> Tensor:
    encoded = form.encode(x.float(), axis)
    assert encoded.scales is not None
    scales = form.scale.values_of(encoded.scales.long()).double()
    if encoded.tensor_scale is not None:
        scales = scales * encoded.tensor_scale.double()
    unscaled = x / _spread(form, scales, x, axis)
    if encoded.zero_points is not None:
        zeros = form.element.values_of(encoded.zero_points.long()).double()
        unscaled = unscaled + _spread(form, zeros, x, axis)
    return unscaled.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _spread(form: Block, per_block: Tensor, x: Tensor, axis: int) -> Tensor:
    """One number a block as one number an element."""
    if not isinstance(form.size, int) or x.ndim == 0:
        return per_block
    return per_block.repeat_interleave(form.size, axis).narrow(axis, 0, x.shape[axis])


def _grid(form: Format) -> tuple[float, ...]:
    scalar = form.element if isinstance(form, Block) else form
    if not isinstance(scalar, Scalar) or scalar.bits > WIDEST_GRID:
        return ()
    return tuple(value for value in scalar.values().tolist() if abs(value) < float("inf"))
