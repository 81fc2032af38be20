"""Integers of any width: int64 tensors times powers of two, carried into balanced digits."""

from collections.abc import Iterable

import torch
from torch import Tensor

LIMB = 16
"""Bits of a stored limb: balanced limbs lie in [-2^15, 2^15]."""

ROOM = 62
"""A magnitude below 2^62 in int64 can be added to another one without overflow."""

Term = tuple[int, Tensor]
"""`(offset, t)` stands for t * 2^offset, with offset >= 0 and |t| < 2^62."""


def bit_length(t: Tensor) -> int:
    """Bits of the largest magnitude in an int64 tensor; 0 when it is empty or all zero."""
    if not t.numel():
        return 0
    low, high = torch.aminmax(t)
    return max(-int(low), int(high)).bit_length()


def bit_lengths(t: Tensor) -> Tensor:
    """Bits of every magnitude of an int64 tensor with |t| < 2^62, as int64."""
    magnitude = t.abs()
    high, low = magnitude >> 31, magnitude & 0x7FFFFFFF
    return torch.where(high > 0, 31 + _exponents(high), _exponents(low))


def _exponents(t: Tensor) -> Tensor:
    return torch.frexp(t.double()).exponent.long()


def trailing_zeros(t: Tensor) -> Tensor:
    """Index of the lowest set bit of every element; -1 where the element is zero."""
    return bit_lengths(t & -t) - 1


def digits(terms: Iterable[Term], width: int) -> list[Tensor]:
    """Digits d_k in [-2^(width-1), 2^(width-1)) with sum d_k 2^(width k) = sum t 2^offset.

    At least one term, of shapes that broadcast; at least one digit, all of one shape.
    `width` is at most 31 for terms of any size, and at most 46 for limbs.
    """
    terms = list(terms)
    zero = torch.zeros_like(torch.broadcast_tensors(*(t for _, t in terms))[0])
    places = [zero]
    for offset, t in terms:
        place, shift = divmod(offset, width)
        for digit in _chop(t, width):
            places.extend([zero] * (place + 1 - len(places)))
            places[place] = places[place] + (digit << shift)
            place += 1
    return _carry(places, width)


def _chop(t: Tensor, width: int) -> Iterable[Tensor]:
    half = 1 << (width - 1)
    while bool(t.any()):
        low = ((t + half) & (2 * half - 1)) - half
        yield low
        t = (t - low) >> width


def _carry(places: list[Tensor], width: int) -> list[Tensor]:
    half = 1 << (width - 1)
    done: list[Tensor] = []
    carry = torch.zeros_like(places[0])
    for place in places:
        total = place + carry
        carry = (total + half) >> width
        done.append(total - (carry << width))
    return [*done, *_chop(carry, width)]


def top_bits(limbs: Tensor) -> int:
    """A bound b with |value| < 2^b for stacked limbs (L, *shape)."""
    wide = LIMB * (len(limbs) - 1)
    return wide + bit_length(limbs[-1]) + (1 if wide else 0)


def sign(limbs: Tensor) -> Tensor:
    """Sign of sum limbs_k 2^(16 k): that of the highest non-zero limb, since limbs are balanced."""
    result = torch.sign(limbs[-1])
    for limb in reversed(limbs[:-1]):
        result = torch.where(result == 0, torch.sign(limb), result)
    return result


def unsigned(limbs: Tensor) -> tuple[list[Tensor], Tensor]:
    """Magnitudes as limbs in [0, 2^16), and the signs. At least five limbs come from one."""
    signs = sign(limbs)
    parts = _split_single(limbs[0] * signs) if len(limbs) == 1 else list((limbs * signs).unbind())
    done: list[Tensor] = []
    carry = torch.zeros_like(signs)
    for part in parts:
        total = part + carry
        carry = total >> LIMB
        done.append(total - (carry << LIMB))
    return [*done, carry], signs


def _split_single(t: Tensor) -> list[Tensor]:
    return [(t >> (LIMB * k)) & 0xFFFF for k in range(4)]


def long_division(limbs: list[Tensor], divisor: int | Tensor) -> tuple[list[Tensor], Tensor]:
    """Quotient limbs and whether a remainder is left; limbs in [0, 2^16), divisor in [1, 2^46)."""
    remainder = torch.zeros_like(limbs[0])
    quotient: list[Tensor] = []
    for limb in reversed(limbs):
        part = (remainder << LIMB) + limb
        digit = torch.div(part, divisor, rounding_mode="floor")
        remainder = part - digit * divisor
        quotient.append(digit)
    return quotient[::-1], remainder != 0


def leading(limbs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The top 62 bits or fewer of every magnitude: (bits, sticky, exponent of their last bit).

    `sticky` says that a lower bit is set. Limbs lie in [0, 2^16); a value of more than 54 bits
    gives at least 54.
    """
    bits = torch.zeros_like(limbs[0])
    sticky = torch.zeros_like(limbs[0], dtype=torch.bool)
    exponent = torch.full_like(limbs[0], LIMB * len(limbs))
    for limb in reversed(limbs):
        take = (ROOM - bit_lengths(bits)).clamp(max=LIMB)
        rest = LIMB - take
        bits = (bits << take) | (limb >> rest)
        sticky = sticky | ((limb & ((1 << rest) - 1)) != 0)
        exponent = exponent - take
    return bits, sticky, exponent


def round_to_odd(bits: Tensor, sticky: Tensor, exponent: Tensor) -> Tensor:
    """Float64 of bits * 2^exponent (bits >= 0), cut to 53 bits; the last bit is set if inexact.

    Boldo and Melquiond: rounding such a value again to at most 51 bits equals rounding once.
    """
    drop = (bit_lengths(bits) - 53).clamp(min=0)
    sticky = sticky | ((bits & ((1 << drop) - 1)) != 0)
    return scale_by_power((bits >> drop | sticky.long()).double(), exponent + drop)


def scale_by_power(x: Tensor, exponent: Tensor) -> Tensor:
    """x * 2^exponent in float64; magnitudes stay within [2^-1000, the largest float64] unless 0."""
    half = exponent.clamp(-2000, 2000) >> 1
    scaled = x * _power(half) * _power(exponent.clamp(-2000, 2000) - half)
    largest = torch.finfo(torch.float64).max
    small = (scaled.abs() < 2.0**-1000) & (x != 0)
    return torch.where(small, torch.sign(x) * 2.0**-1000, scaled.clamp(-largest, largest))


def _power(exponent: Tensor) -> Tensor:
    return ((exponent + 1023) << 52).view(torch.float64)
