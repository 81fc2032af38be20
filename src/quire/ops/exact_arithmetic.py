"""Exact arithmetic: sums, products and data movement of `Exact` values.

Products run as float64 products of digits so narrow that every partial sum stays below 2^53.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.ops import digits
from quire.ops.digits import LIMB, ROOM, Term, bit_length
from quire.ops.exact_value import (
    Exact,
    Move,
    as_exact,
    collected,
    constant,
    rounded,
    terms_of,
)

Dims = int | Sequence[int] | None


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
    result = collected(sums.items(), a.exponent + b.exponent)
    result = replace(result, divisors=tuple(sorted(a.divisors + b.divisors)))
    return _clean(result, _special(function, a, b))


def _widths(wide_a: int, wide_b: int, sum_bits: int) -> tuple[int, int]:
    """Digit widths with the fewest pairs: |d_a d_b| <= 2^(w_a + w_b - 2) and sums below 2^53."""
    budget = 55 - sum_bits
    choices = range(max(2, budget - 46), min(46, budget - 2) + 1)
    best = min(choices, key=lambda w: -(-wide_a // w) * -(-wide_b // (budget - w)))
    return best, budget - best


def _float_digits(x: Exact, width: int) -> list[Tensor]:
    return [digit.double() for digit in digits.digits(terms_of(x), width)]


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
    result = replace(collected(terms, exponent), divisors=divisors)
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
    parts = x.limbs if fits else digits.digits(terms_of(x), LIMB)
    result = collected([(LIMB * k, function(t)) for k, t in enumerate(parts)], x.exponent)
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
    return terms_of(x, max(x.exponent - exponent, 0))


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
