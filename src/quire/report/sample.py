"""A tensor's elements in the unit of its format's grid, as the distribution plot shows them."""

import torch
from torch import Tensor

from quire.formats import parse
from quire.precision.normalized import grid, to_grid
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
    if isinstance(axis, tuple):
        x, axis = x.flatten(axis[0], axis[-1]), axis[0]
    values = to_grid(form, x, axis)
    places = torch.linspace(0, values.numel() - 1, size).long().unique()
    kept = values.flatten()[places] if values.numel() else values.flatten()
    unit = "block scale" if form.is_block else ""
    return TensorRecord(site, text, tuple(kept.tolist()), grid(form, WIDEST_GRID), unit)
