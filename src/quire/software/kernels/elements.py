"""What a kernel has to know of a format: plain records, made once from the format.

A record is a compile-time constant of a kernel. What its numbers mean: docs/numerics.md.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from quire.errors import FormatError
from quire.formats import Block, Fixed, Format, Minifloat, Pow2, UFixed
from quire.formats.base import Scalar
from quire.formats.carrier import FLOAT32


class Element(NamedTuple):
    """An element, alone or in a block under a power of two.

    bits: of a code. is_fixed: an integer with `fraction` bits after the point; otherwise sign and
    magnitude with `fraction` mantissa bits and the exponent bias `bias`.
    emin, emax: exponents of the smallest normal and of the largest value.
    lowest, highest: the values between which it saturates.
    last: the magnitude code of the largest finite value of a minifloat; what lies above is NaN, but
    `last + 1` is Inf where `has_infinity`.
    """

    bits: int
    is_fixed: bool
    fraction: int
    bias: int
    emin: int
    emax: int
    lowest: float
    highest: float
    last: int
    has_infinity: bool


class Rounding(NamedTuple):
    """A cast: to an element, or to blocks of `size` elements (0: no blocks).

    low, high: bounds of the exponent field, in place in float32, of a block's largest magnitude,
    which `offset` brings to that of its scale.
    """

    element: Element
    size: int
    low: int
    high: int
    offset: int


@cache
def element_of(format: Scalar, in_block: bool = True) -> Element:
    """The record of an element format; FormatError for one that kernels have no arithmetic for.

    in_block: whether it saturates as in a block, never to the lowest code of fixed point.
    """
    problem = _problem(format)
    if problem:
        raise FormatError(f"{format}: {problem}")
    lowest = max(format.lowest, -format.highest) if in_block else format.lowest
    if isinstance(format, Fixed | UFixed):
        shape = (format.bits, True, format.f, 0, 0, format.emax)
        return Element(*shape, lowest, format.highest, 0, False)
    assert isinstance(format, Minifloat)
    special = {"none": 0, "nan": 1, "ieee": 2**format.m}[format.special]
    return Element(
        format.bits,
        False,
        format.m,
        format.exponent_bias,
        format.emin,
        format.emax,
        lowest,
        format.highest,
        2 ** (format.bits - 1) - 1 - special,
        format.has_infinity,
    )


def _problem(format: Scalar) -> str | None:
    if not isinstance(format, Fixed | UFixed | Minifloat):
        return "kernels round to fixed point and minifloats only"
    if format.carrier(torch.float32) != FLOAT32:
        return "it is not rounded in float32"
    if isinstance(format, Minifloat) and (
        format.m == 0 or format.emax + 24 - format.m > FLOAT32.bias
    ):
        return "kernels take 1 mantissa bit or more, and exponents well within those of float32"
    return None


def rounding_of(format: Format) -> Rounding:
    """The record of a cast; FormatError, with the reason, for one that kernels cannot do."""
    if isinstance(format, Scalar):
        return Rounding(element_of(format, in_block=False), 0, 0, 0, 0)
    assert isinstance(format, Block)
    if not isinstance(format.scale, Pow2):
        raise FormatError(f"{format}: kernels take scales that are powers of two")
    if isinstance(format.size, str) or format.size & (format.size - 1):
        raise FormatError(f"{format}: kernels take blocks whose size is a power of two")
    if format.carrier(torch.float32) != FLOAT32:
        raise FormatError(f"{format}: it is not rounded in float32")
    element, scale = element_of(format.element), format.scale
    fields = (scale.smallest_exponent, min(scale.emax, FLOAT32.bias))
    offset = element.emax << FLOAT32.mantissa
    low, high = (((e + FLOAT32.bias) << FLOAT32.mantissa) + offset for e in fields)
    return Rounding(element, format.size, low, min(high, FLOAT32.infinity_bits), offset)
