"""`Exact`: a tensor of real numbers without error, whatever their width; from floats and back.

An element is sum_k limbs_k 2^(16 k + exponent) / (product of divisors) / quotient, or a special
value (NaN, +-Inf). One limb of up to 62 bits serves while the exponents at hand allow it; otherwise
the limbs are balanced digits, as in Kulisch's long accumulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from quire.errors import QuireError
from quire.formats import Format
from quire.ops import digits
from quire.ops.digits import LIMB, ROOM, Term, bit_length

WIDEST_DIVISOR = 46
"""Bits of a divisor: a remainder and one limb must fit int64 in the long division."""

SQRT2 = 0x16A09E667F3BCD
"""The 53-bit significand just above sqrt(2): the only one whose side a sticky bit leaves open."""

Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Origin:
    """What made a value; kept by data movement.

    `format`: what the last cast rounded to, or None. `emitted`: float64, what that cast gave, its
    -0 included; or, with no format, the real values of a function rounded to odd, which the next
    scalar cast rounds in place of the value.
    """

    format: Format | None
    emitted: Tensor

    def move(self, function: Move) -> Origin:
        return Origin(self.format, function(self.emitted))


@dataclass(frozen=True, eq=False)
class Exact:
    """A tensor of exact values.

    `limbs`: int64 (L, *shape); L = 1 with |limb| < 2^62, or balanced digits of 16 bits.
    `divisors`: odd integers common to all elements. `quotient`: int64 of the shape, a divisor for
    each element (softmax), or None. `special`: float64 of the shape, NaN or +-Inf where the element
    is so and 0 elsewhere, or None. `origin`: see `Origin`; arithmetic drops it.
    """

    limbs: Tensor
    exponent: int = 0
    divisors: tuple[int, ...] = ()
    quotient: Tensor | None = None
    special: Tensor | None = None
    origin: Origin | None = None

    @property
    def shape(self) -> torch.Size:
        return self.limbs.shape[1:]

    @property
    def format(self) -> Format | None:
        """The format of the cast that made this value, if only data was moved since."""
        return None if self.origin is None else self.origin.format

    def codes(self, fraction_bits: int) -> Tensor:
        """The integers value * 2^fraction_bits of a value that a cast to fixed point made."""
        assert self.origin is not None
        return (self.origin.emitted * 2.0**fraction_bits).long()

    @property
    def ndim(self) -> int:
        return self.limbs.ndim - 1

    def move(self, function: Move) -> Exact:
        """Data movement: a function that copies elements (or fills with zero), on each part."""
        limbs = torch.stack([function(limb) for limb in self.limbs])
        quotient = None if self.quotient is None else function(self.quotient).clamp(min=1)
        special = None if self.special is None else function(self.special)
        origin = None if self.origin is None else self.origin.move(function)
        return replace(self, limbs=limbs, quotient=quotient, special=special, origin=origin)

    def to_sticky_float64(self) -> Tensor:
        """Rounded to odd, 53 bits: rounding it into any format of at most 49 bits rounds once.

        Formats whose boundary is sqrt(2) times a power of two (log) are served as well. Zero is +0.
        Magnitudes outside [2^-1000, the largest float64] are moved to that range's end.
        """
        value = self._magnitudes() * digits.sign(self.limbs)
        return (
            value if self.special is None else torch.where(self.special == 0, value, self.special)
        )

    def _magnitudes(self) -> Tensor:
        if len(self.limbs) == 1 and not self.divisors and self.quotient is None:
            return self._of_one_limb(self.limbs[0].abs())
        limbs, _ = digits.unsigned(self.limbs)
        rest = torch.zeros_like(limbs[0], dtype=torch.bool)
        exponent = self.exponent
        for divisor in (*self.divisors, *([] if self.quotient is None else [self.quotient])):
            limbs = [torch.zeros_like(limbs[0])] * 7 + limbs
            limbs, left = digits.long_division(limbs, divisor)
            rest, exponent = rest | left, exponent - 7 * LIMB
        bits, sticky, last = digits.leading(limbs)
        return self._settle(digits.round_to_odd(bits, sticky | rest, last + exponent))

    def _of_one_limb(self, bits: Tensor) -> Tensor:
        if bit_length(bits) <= 53 and abs(self.exponent) < 900:
            return bits.double() * 2.0**self.exponent
        none = torch.zeros_like(bits, dtype=torch.bool)
        exponents = torch.full_like(bits, self.exponent)
        return self._settle(digits.round_to_odd(bits, none, exponents))

    def _settle(self, magnitudes: Tensor) -> Tensor:
        """Where the truncated significand is that of sqrt(2), say on which side the value lies."""
        mantissa = magnitudes.view(torch.int64) & ((1 << 52) - 1)
        for index in (mantissa == SQRT2 - (1 << 52)).nonzero().tolist():
            place = tuple(index)
            value, rounded = abs(self.element(place)), Fraction(magnitudes[place].item())
            power = rounded / Fraction(SQRT2, 1 << 52)
            if value**2 < 2 * power**2:
                magnitudes[place] = float(power * Fraction(SQRT2 - 1, 1 << 52))
        return magnitudes

    def to_float32(self) -> Tensor:
        """Rounded once to the nearest float32, ties to even; finite values beyond it saturate."""
        return nearest_float32(self.to_sticky_float64())

    def element(self, index: tuple[int, ...]) -> Fraction:
        """One finite element as a fraction."""
        limbs: list[int] = self.limbs[(slice(None), *index)].tolist()
        total = sum(limb << (LIMB * k) for k, limb in enumerate(limbs))
        below = 1 if self.quotient is None else int(self.quotient[index])
        return Fraction(total, below * math.prod(self.divisors)) * Fraction(2) ** self.exponent

    def fractions(self) -> list[Fraction]:
        """All elements, finite ones, in row-major order."""
        every = torch.ones(self.shape, dtype=torch.bool).nonzero()
        return [self.element(tuple(index)) for index in every.tolist()]


def from_float(x: Tensor) -> Exact:
    """The values of a floating-point tensor, exactly. -0 becomes 0, which has no sign."""
    x = x.detach().double()
    finite = x.isfinite()
    special = None if bool(finite.all()) else torch.where(finite, 0.0, x)
    x = x if special is None else torch.where(finite, x, 0.0)
    value = _from_narrow(x)
    return replace(_from_wide(x) if value is None else value, special=special)


def _from_narrow(x: Tensor) -> Exact | None:
    """One limb, if all values are multiples of 2^-61 times a bound of their magnitudes."""
    top = math.frexp(float(x.abs().max()))[1] if x.numel() else 0
    exponent = top - ROOM + 1
    if not -900 < exponent < 900:
        return None
    scaled = x * 2.0**-exponent
    return _single(scaled.long(), exponent) if scaled.equal(scaled.trunc()) else None


def _from_wide(x: Tensor) -> Exact:
    mantissa, exponents = torch.frexp(x)
    integer = (mantissa * 2.0**53).long()
    zeros = digits.trailing_zeros(integer).clamp(min=0)
    integer, position = integer >> zeros, exponents.long() - 53 + zeros
    used = integer != 0
    if not bool(used.any()):
        return Exact(integer.unsqueeze(0))
    lowest = int(position[used].min())
    return collected(_spread(integer, torch.where(used, position - lowest, 0)), lowest)


def _spread(integer: Tensor, position: Tensor) -> list[Term]:
    """Terms for integer * 2^position, whose positions differ from element to element."""
    places = torch.zeros(int(position.max()) // LIMB + 3, *integer.shape, dtype=torch.int64)
    places = places.to(integer.device)
    low = integer & 0x3FFFFFF
    for part, at in ((low, position), ((integer - low) >> 26, position + 26)):
        places.scatter_add_(0, (at // LIMB).unsqueeze(0), (part << (at % LIMB)).unsqueeze(0))
    return [(LIMB * k, place) for k, place in enumerate(places)]


def from_integer(codes: Tensor, exponent: int = 0) -> Exact:
    """codes * 2^exponent for an integer tensor with |codes| < 2^62."""
    return Exact(codes.long().unsqueeze(0), exponent)


def constant(value: Fraction | float | int) -> Exact:
    """A number as an exact value without dimensions; the odd part of its denominator divides."""
    fraction = Fraction(value)
    twos = (fraction.denominator & -fraction.denominator).bit_length() - 1
    number, terms = fraction.numerator, list[Term]()
    for k in range(0, abs(number).bit_length(), 32):
        part = (abs(number) >> k) & 0xFFFFFFFF
        terms.append((k, torch.tensor(part if number >= 0 else -part)))
    value_of = collected(terms or [(0, torch.tensor(0))], -twos)
    return _divided(value_of, fraction.denominator >> twos)


def _divided(x: Exact, odd: int) -> Exact:
    if odd == 1:
        return x
    if odd.bit_length() > WIDEST_DIVISOR:
        raise QuireError(f"exact division by {odd}: a divisor has at most {WIDEST_DIVISOR} bits")
    return replace(x, divisors=tuple(sorted((*x.divisors, odd))))


def collected(terms: Iterable[Term], exponent: int) -> Exact:
    """The sum of terms times 2^exponent, in as few limbs as it needs."""
    terms = list(terms)
    bits = max((offset + bit_length(t) for offset, t in terms), default=0) + len(terms).bit_length()
    if bits <= ROOM:
        total = terms[0][1] << terms[0][0]
        for offset, t in terms[1:]:
            total = total + (t << offset)
        return _single(total, exponent)
    return _trimmed(digits.digits(terms, LIMB), exponent)


def _single(limb: Tensor, exponent: int) -> Exact:
    """One limb, its common trailing zeros moved into the exponent so that widths stay small."""
    lowest = (limb & -limb).masked_fill(limb == 0, 1 << ROOM)
    zeros = int(lowest.min()).bit_length() - 1 if limb.numel() else ROOM
    if zeros == ROOM:
        return Exact(limb.unsqueeze(0))
    return Exact((limb >> zeros if zeros else limb).unsqueeze(0), exponent + zeros)


def _trimmed(limbs: list[Tensor], exponent: int) -> Exact:
    while len(limbs) > 1 and not bool(limbs[-1].any()):
        limbs.pop()
    low = next((k for k, limb in enumerate(limbs) if bool(limb.any())), len(limbs) - 1)
    limbs, exponent = limbs[low:], exponent + LIMB * low
    if len(limbs) * LIMB > ROOM:
        return Exact(torch.stack(limbs), exponent)
    total = limbs[0]
    for k, limb in enumerate(limbs[1:], 1):
        total = total + (limb << (LIMB * k))
    return _single(total, exponent)


def terms_of(x: Exact, offset: int = 0) -> list[Term]:
    """x times 2^offset, exponent and divisors aside, as terms."""
    return [(LIMB * k + offset, limb) for k, limb in enumerate(x.limbs)]


def rounded(x: Exact) -> Exact:
    """x rounded once to the nearest fp32: an operand of a product that has no plan entry."""
    return from_float(x.to_float32())


def operand(x: Exact) -> Exact:
    """x as an operand of a product: as it was cast, or rounded once to fp32 if it was not."""
    return x if x.origin is not None and x.origin.format is not None else rounded(x)


def as_exact(value: Exact | Tensor | float) -> Exact:
    """An exact value of one, of a tensor, or of a scalar constant, which is its fp32 value."""
    if isinstance(value, Exact):
        return value
    if isinstance(value, Tensor):
        return from_float(value) if value.is_floating_point() else from_integer(value)
    return constant(fp32(value)) if math.isfinite(value) else from_float(torch.tensor(value))


def fp32(value: float) -> float:
    """A number rounded to the nearest fp32, which a scalar constant is without a plan entry."""
    return torch.tensor(value, dtype=torch.float32).item()


def in_float64(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """An op without an exact meaning: inputs rounded to fp32, float64, results rounded to fp32.

    Returns the target's result with an `Exact` for every floating-point tensor in it.
    """
    args, kwargs = pytree.tree_map(_in_float64, (args, kwargs))
    return pytree.tree_map(_from_float64, target(*args, **kwargs))


def _in_float64(value: Any) -> Any:
    if isinstance(value, torch.dtype) and value.is_floating_point:
        return torch.float64
    return value.to_float32().double() if isinstance(value, Exact) else value


def _from_float64(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return from_float(nearest_float32(value))


def nearest_float32(value: Tensor) -> Tensor:
    """Float64 rounded to the nearest float32, ties to even; finite values beyond it saturate."""
    largest = torch.finfo(torch.float32).max
    return torch.where(value.isinf(), value, value.clamp(-largest, largest)).float()
