"""`cast`: the one op that rounds, as a plain traceable function."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from quire.formats import Format, parse

Axis: TypeAlias = "int | tuple[int, ...]"
StaticScale: TypeAlias = "float | tuple[float, float] | None"


class _Parsed:
    """Formats as attributes named by their strings: a look-up that dynamo resolves as it traces."""


_parsed = _Parsed()


@torch.compiler.assume_constant_result
def _parse_once(format: str) -> str:
    """Make `format` an attribute of `_parsed`, and return its name."""
    if not hasattr(_parsed, format):
        setattr(_parsed, format, parse(format))
    return format


def as_blocks(x: Tensor, axis: Axis) -> tuple[Tensor, int]:
    """What a cast rounds: `x` with its axes flattened into one; and the index of that axis.

    Several axes are consecutive, such as a convolution's (in/groups, kh, kw). The last varies
    fastest along the flattened one, so blocks run in the order of memory.
    """
    # Zero has no sign inside a graph (docs/numerics.md, "Graphs"): -0 + 0 is +0.
    x = x + 0.0 if x.is_floating_point() else x
    if isinstance(axis, int):
        return x, axis
    first = axis[0] % x.ndim
    return x.flatten(first, axis[-1] % x.ndim), first


def cast(x: Tensor, format: str, axis: Axis = -1, scale: StaticScale = None) -> Tensor:
    """Round every element of `x` to the nearest value of a number format.

    x: a floating-point tensor of any shape.
    format: a format string such as "mxint8".
    axis: the axis along which blocks run, or consecutive axes that are flattened into one;
        formats without blocks ignore it.
    scale: a static scale of a block format with a real scale (see `Format.quantize`).
    Returns a tensor of x's shape and dtype; a value of zero gives +0. The gradient is
    straight-through, and zero where a value saturated. Raises `FormatError` for an unknown format
    and for a dtype that cannot hold the format's values.
    """
    number_format: Format = getattr(_parsed, _parse_once(format))
    blocks, block_axis = as_blocks(x, axis)
    return number_format.quantize(blocks, block_axis, scale=scale).reshape(x.shape)


# Printed and pickled graphs name the function as users import it, `quire.cast`.
cast.__module__ = "quire"
