"""Exact arithmetic on tensors: `Exact` holds real numbers without error, whatever their width.

An element is sum_k limbs_k 2^(16 k + exponent) / (product of divisors) / quotient, or a special
value (NaN, +-Inf). One limb of up to 62 bits serves while the exponents at hand allow it; otherwise
the limbs are balanced digits, as in Kulisch's long accumulator. Products run as float64 products of
digits so narrow that every partial sum stays below 2^53.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
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
Dims = int | Sequence[int] | None


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
    return _collect(_spread(integer, torch.where(used, position - lowest, 0)), lowest)


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
    value_of = _collect(terms or [(0, torch.tensor(0))], -twos)
    return _divided(value_of, fraction.denominator >> twos)


def _divided(x: Exact, odd: int) -> Exact:
    if odd == 1:
        return x
    if odd.bit_length() > WIDEST_DIVISOR:
        raise QuireError(f"exact division by {odd}: a divisor has at most {WIDEST_DIVISOR} bits")
    return replace(x, divisors=tuple(sorted((*x.divisors, odd))))


def _collect(terms: Iterable[Term], exponent: int) -> Exact:
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


def _terms(x: Exact, offset: int = 0) -> list[Term]:
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


def settled(x: Exact) -> Exact:
    """x itself; if each element has a divisor of its own (softmax), x rounded once to fp32."""
    return x if x.quotient is None else rounded(x)


def _special(function: Callable[..., Tensor], *operands: Exact) -> Tensor | None:
    """Where the result is NaN or +-Inf by IEEE 754: the function on the operands' signs."""
    if all(x.special is None for x in operands):
        return None
    result = function(*(_shadow(x) for x in operands))
    special = torch.where(result.isfinite(), 0.0, result)
    return special if bool(special.any()) else None


def _shadow(x: Exact) -> Tensor:
    signs = digits.sign(x.limbs).double()
    return signs if x.special is None else torch.where(x.special == 0, signs, x.special)


def _clean(x: Exact, special: Tensor | None) -> Exact:
    """x with these specials; the limbs under a special value are 0."""
    if special is None:
        return replace(x, special=None, origin=None)
    return replace(x, limbs=torch.where(special == 0, x.limbs, 0), special=special, origin=None)


def bilinear(
    function: Callable[[Tensor, Tensor], Tensor], a: Exact, b: Exact, length: int
) -> Exact:
    """A bilinear tensor function, each of whose results is a sum of at most `length` products.

    The operands are cut into digits so narrow that the function is exact in float64 on any pair.
    """
    a, b = settled(a), settled(b)
    wide_a, wide_b = digits.top_bits(a.limbs) + 1, digits.top_bits(b.limbs) + 1
    width_a, width_b = _widths(wide_a, wide_b, max(length - 1, 0).bit_length())
    sums: dict[int, Tensor] = {}
    for i, part_a in enumerate(_float_digits(a, width_a)):
        for j, part_b in enumerate(_float_digits(b, width_b)):
            offset, product = width_a * i + width_b * j, function(part_a, part_b).long()
            sums[offset] = sums[offset] + product if offset in sums else product
    result = _collect(sums.items(), a.exponent + b.exponent)
    result = replace(result, divisors=tuple(sorted(a.divisors + b.divisors)))
    return _clean(result, _special(function, a, b))


def _widths(wide_a: int, wide_b: int, sum_bits: int) -> tuple[int, int]:
    """Digit widths with the fewest pairs: |d_a d_b| <= 2^(w_a + w_b - 2) and sums below 2^53."""
    budget = 55 - sum_bits
    choices = range(max(2, budget - 46), min(46, budget - 2) + 1)
    best = min(choices, key=lambda w: -(-wide_a // w) * -(-wide_b // (budget - w)))
    return best, budget - best


def _float_digits(x: Exact, width: int) -> list[Tensor]:
    return [digit.double() for digit in digits.digits(_terms(x), width)]


def mul(a: Exact, b: Exact) -> Exact:
    """Elementwise product, with broadcasting."""
    return bilinear(torch.mul, a, b, 1)


def matmul(a: Exact, b: Exact) -> Exact:
    """Matrix product (..., M, K) (..., K, N)."""
    return bilinear(torch.matmul, a, b, a.shape[-1])


def linear(x: Exact, weight: Exact, bias: Exact | None = None) -> Exact:
    """x (..., K) times weight (N, K) transposed, with the bias in the same sum."""
    result = bilinear(F.linear, x, weight, x.shape[-1])
    return result if bias is None else add(result, bias)


def conv(
    function: Callable[[Tensor, Tensor], Tensor], x: Exact, weight: Exact, bias: Exact | None
) -> Exact:
    """A convolution: `function(x, weight)` sums over all axes of the weight but the first."""
    # cuDNN may choose an algorithm (FFT, Winograd) that is not a plain sum of products.
    with torch.backends.cudnn.flags(enabled=False):
        result = bilinear(function, x, weight, weight.shape[1:].numel())
    if bias is None:
        return result
    return add(result, bias.move(lambda t: t.reshape(-1, *[1] * (weight.ndim - 2))))


def sums(function: Move, x: Exact, length: int) -> Exact:
    """A function that gives sums of at most `length` elements each."""
    one = _to(constant(1), x.limbs.device)
    return bilinear(lambda values, unit: function(values) * unit, x, one, length)


def divide(x: Exact, counts: Tensor) -> Exact:
    """x over positive integers, one for each element or broadcast: exact rationals."""
    numbers = counts.unique().tolist()
    if len(numbers) == 1:
        return scale(x, Fraction(1, numbers[0]))
    return replace(settled(x), quotient=counts.expand(x.shape), origin=None)


def scale(x: Exact, factor: Fraction | float | int) -> Exact:
    """x times a rational constant; the odd part of its denominator becomes a divisor."""
    by = _to(constant(factor), x.limbs.device)
    quotient, x = x.quotient, replace(x, quotient=None)
    return replace(mul(x, by), quotient=quotient)


def neg(x: Exact) -> Exact:
    """-x."""
    special = None if x.special is None else -x.special
    return replace(x, limbs=-x.limbs, special=special, origin=None)


def add(a: Exact, b: Exact) -> Exact:
    """a + b, with broadcasting."""
    a, b, divisors = _common(*_on_one_device([settled(a), settled(b)]))
    exponent = _lowest((a, b))
    terms = [term for x in (a, b) for term in _placed(x, exponent)]
    result = replace(_collect(terms, exponent), divisors=divisors)
    return _clean(result, _special(torch.add, a, b))


def sub(a: Exact, b: Exact) -> Exact:
    """a - b, with broadcasting."""
    return add(a, neg(b))


def sum_over(x: Exact, dim: Dims = None, keepdim: bool = False) -> Exact:
    """The sum over dimensions (all of them for None)."""
    x = settled(x)
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    function = partial(torch.sum, dim=axes or tuple(range(x.ndim)), keepdim=keepdim)
    count = math.prod(x.shape[axis] for axis in axes or range(x.ndim))
    fits = bit_length(x.limbs) + count.bit_length() <= ROOM
    parts = x.limbs if fits else digits.digits(_terms(x), LIMB)
    result = _collect([(LIMB * k, function(t)) for k, t in enumerate(parts)], x.exponent)
    return _clean(replace(result, divisors=x.divisors), _special(function, x))


def mean(x: Exact, dim: Dims = None, keepdim: bool = False) -> Exact:
    """The mean over dimensions: an exact rational."""
    total = sum_over(x, dim, keepdim)
    return scale(total, Fraction(max(total.shape.numel(), 1), max(x.shape.numel(), 1)))


def maximum(a: Exact, b: Exact) -> Exact:
    """The larger of a and b, with broadcasting; NaN wins."""
    a, b = _on_one_device([settled(a), settled(b)])
    difference = sub(replace(a, special=None), replace(b, special=None))
    first = digits.sign(difference.limbs) >= 0
    first = (first | _is(b, -math.inf)) & ~_is(a, -math.inf)
    return _clean(where(first, a, b), _special(torch.maximum, a, b))


def _is(x: Exact, special: float) -> Tensor:
    none = torch.zeros(x.shape, dtype=torch.bool, device=x.limbs.device)
    return none if x.special is None else x.special == special


def minimum(a: Exact, b: Exact) -> Exact:
    """The smaller of a and b, with broadcasting; NaN wins."""
    return neg(maximum(neg(a), neg(b)))


def relu(x: Exact) -> Exact:
    """max(x, 0); NaN stays."""
    special = _special(torch.relu, x)
    return _clean(replace(x, limbs=torch.where(digits.sign(x.limbs) > 0, x.limbs, 0)), special)


def absolute(x: Exact) -> Exact:
    """|x|."""
    special = None if x.special is None else x.special.abs()
    return replace(x, limbs=x.limbs * digits.sign(x.limbs), special=special, origin=None)


def clamp(x: Exact, low: float | None = None, high: float | None = None) -> Exact:
    """x moved into [low, high]; NaN stays."""
    x = x if low is None else maximum(x, as_exact(low))
    return x if high is None else minimum(x, as_exact(high))


def where(condition: Tensor, a: Exact, b: Exact) -> Exact:
    """a where the condition holds, b elsewhere, with broadcasting."""
    return combine(lambda parts: torch.where(condition, parts[0], parts[1]), (a, b))


def combine(function: Callable[[list[Tensor]], Tensor], values: Sequence[Exact]) -> Exact:
    """Data movement out of several values: cat, stack, where."""
    values = _on_one_device([settled(x) for x in values])
    limbs, exponent, divisors = _aligned(values)
    parts = [function([limb[k] for limb in limbs]) for k in range(len(limbs[0]))]
    special = None
    if any(x.special is not None for x in values):
        special = function([_special_or_zero(x) for x in values])
    return Exact(torch.stack(parts), exponent, divisors, special=special)


def _special_or_zero(x: Exact) -> Tensor:
    zeros = torch.zeros(x.shape, dtype=torch.float64, device=x.limbs.device)
    return zeros if x.special is None else x.special


def _aligned(values: list[Exact]) -> tuple[list[Tensor], int, tuple[int, ...]]:
    """Limbs of all values over one exponent, one list of divisors, and equally many."""
    divisors = _union([x.divisors for x in values])
    values = [_over(x, divisors) for x in values]
    exponent = _lowest(values)
    placed = [_placed(x, exponent) for x in values]
    if all(len(terms) == 1 and terms[0][0] + bit_length(terms[0][1]) <= ROOM for terms in placed):
        return [(terms[0][1] << terms[0][0]).unsqueeze(0) for terms in placed], exponent, divisors
    cut = [digits.digits(terms, LIMB) for terms in placed]
    count = max(2, *(len(limbs) for limbs in cut))
    zeros = [torch.zeros_like(x.limbs[0]) for x in values]
    stacks = [
        torch.stack(limbs + [zero] * (count - len(limbs)))
        for limbs, zero in zip(cut, zeros, strict=True)
    ]
    return stacks, exponent, divisors


def _on_one_device(values: list[Exact]) -> list[Exact]:
    """Constants, made on the CPU, go where the tensors are."""
    devices = [x.limbs.device for x in values]
    device = next((d for d in devices if d.type != "cpu"), devices[0])
    return [x if x.limbs.device == device else _to(x, device) for x in values]


def _to(x: Exact, device: torch.device) -> Exact:
    special = None if x.special is None else x.special.to(device)
    return replace(x, limbs=x.limbs.to(device), special=special, origin=None)


def _lowest(values: Iterable[Exact]) -> int:
    """The lowest exponent in use; a value that is all zero does not count."""
    return min((x.exponent for x in values if bool(x.limbs.any())), default=0)


def _placed(x: Exact, exponent: int) -> list[Term]:
    return _terms(x, max(x.exponent - exponent, 0))


def _union(divisors: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    total = Counter[int]()
    for each in divisors:
        total |= Counter(each)
    return tuple(sorted(total.elements()))


def _over(x: Exact, divisors: tuple[int, ...]) -> Exact:
    """The same value over a list of divisors that contains its own."""
    missing = Counter(divisors) - Counter(x.divisors)
    special, x = x.special, replace(x, divisors=(), special=None, origin=None)
    for factor in missing.elements():
        x = scale(x, factor)
    return replace(x, divisors=divisors, special=special)


def _common(a: Exact, b: Exact) -> tuple[Exact, Exact, tuple[int, ...]]:
    divisors = _union((a.divisors, b.divisors))
    return _over(a, divisors), _over(b, divisors), divisors
