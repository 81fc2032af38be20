"""Softmax, layer norm and RMS norm of fixed-point codes, in integers to the last bit.

The rules: docs/numerics.md, "Softmax, norms, tables, constants".
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import torch
from mpmath import mp
from torch import Tensor

from quire.ops.exact_arithmetic import add, mul
from quire.ops.exact_value import Exact, from_float, from_integer

TABLE_BITS = 15
"""p: fraction bits of the table of exponentials, T[d] = rne(2^p exp(-d 2^-f))."""

ROOT_BITS = 16
"""b: fraction bits of the reciprocal square root R."""


@cache
def exponential_table(w: int, f: int, p: int) -> tuple[int, ...]:
    """T[d] = rne(2^p exp(-d 2^-f)) for every difference d of two codes of fixed(w,f)."""
    with mp.workprec(200):
        return tuple(int(mp.nint(mp.ldexp(mp.exp(-mp.ldexp(d, -f)), p))) for d in range(1 << w))


def softmax(
    codes: Tensor, w: int, f: int, dim: int, masked: Tensor | None = None, p: int = TABLE_BITS
) -> Exact:
    """Softmax along `dim` of the values codes * 2^-f: the exact rationals e_i / S.

    codes: integers of fixed(w,f), w <= 10. masked: bool, elements that count as minus infinity; a
    row that is masked throughout gives zeros.
    """
    table = torch.tensor(exponential_table(w, f, p), device=codes.device)
    lowest = -(1 << (w - 1))
    seen = codes.long() if masked is None else codes.long().masked_fill(masked, lowest)
    terms = table[seen.amax(dim, keepdim=True) - seen]
    if masked is not None:
        terms = terms.masked_fill(masked, 0)
    total = terms.sum(dim, keepdim=True).clamp(min=1)
    return Exact(terms.unsqueeze(0), quotient=total.expand_as(terms))


def layer_norm(
    codes: Tensor,
    f: int,
    rank: int,
    weight: Exact | None,
    bias: Exact | None,
    epsilon: float,
    b: int = ROOT_BITS,
) -> Exact:
    """Layer norm over the last `rank` axes of the values codes * 2^-f, with R in integers."""
    rows, n = _rows(codes, rank)
    sums = rows.sum(-1)
    floor = max(1, round(Fraction(epsilon) * n * n * Fraction(2) ** (2 * f)))
    pairs = zip(_squares(rows), sums.tolist(), strict=True)
    roots = [reciprocal_root(n * s2 - s1 * s1 + floor, 1, b) for s2, s1 in pairs]
    return _scaled(codes, n * rows - sums.unsqueeze(-1), roots, weight, bias)


def rms_norm(
    codes: Tensor, f: int, rank: int, weight: Exact | None, epsilon: float, b: int = ROOT_BITS
) -> Exact:
    """RMS norm over the last `rank` axes of the values codes * 2^-f, with R in integers."""
    rows, n = _rows(codes, rank)
    floor = max(1, round(Fraction(epsilon) * n * Fraction(2) ** (2 * f)))
    roots = [reciprocal_root(s2 + floor, n, b) for s2 in _squares(rows)]
    return _scaled(codes, rows, roots, weight, None)


def reciprocal_root(d: int, c: int, b: int) -> tuple[int, int]:
    """R = isqrt(floor(c 2^(2b+2t) / d)) and b + t, so that R 2^-(b+t) approximates sqrt(c / d)."""
    t = -(-d.bit_length() // 2)
    return math.isqrt((c << (2 * b + 2 * t)) // d), b + t


def _rows(codes: Tensor, rank: int) -> tuple[Tensor, int]:
    n = math.prod(codes.shape[codes.ndim - rank :])
    return codes.long().reshape(-1, n), n


def _squares(rows: Tensor) -> list[int]:
    """The sum of squares of every row, exactly; wide codes overflow int64 and are split."""
    high, low = rows >> 16, rows & 0xFFFF
    parts = [(a * b).sum(-1).tolist() for a, b in ((high, high), (high, low), (low, low))]
    return [(hh << 32) + (hl << 17) + ll for hh, hl, ll in zip(*parts, strict=True)]


def _scaled(
    codes: Tensor,
    centred: Tensor,
    roots: list[tuple[int, int]],
    weight: Exact | None,
    bias: Exact | None,
) -> Exact:
    """centred R 2^-(b+t) gamma + beta, exactly, in the shape of the codes."""
    factors = [math.ldexp(root, -shift) for root, shift in roots]
    factor = torch.tensor(factors, dtype=torch.float64, device=codes.device).unsqueeze(-1)
    product = mul(from_integer(centred), from_float(factor)).move(lambda t: t.reshape(codes.shape))
    if weight is not None:
        product = mul(product, weight)
    return product if bias is None else add(product, bias)
