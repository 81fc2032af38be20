"""The scalar formats again, from docs/numerics.md alone, as lists of exact fractions.

A family is one function from its parameters to the meaning of every code. Rounding is then a search
among exact midpoints, which shares nothing with the bit arithmetic of `quire.formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import isqrt, nextafter

import numpy as np

INFINITY, NAN = "infinity", "nan"
Meaning = Fraction | str


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


@dataclass(frozen=True)
class Code:
    """One code: its bits, its sign, the magnitude it means, and what a tie compares."""

    bits: int
    negative: bool
    magnitude: Meaning
    tie: tuple[int, ...]

    @property
    def value(self) -> Fraction:
        return -self.magnitude if self.negative else self.magnitude


def even(code: int) -> tuple[int, ...]:
    """Ties go to the code that comes first in this order: the even one."""
    return (code & 1,)


def signed(bits: int, magnitudes: list[tuple[Meaning, tuple[int, ...]]]) -> list[Code]:
    """Both signs of a list of magnitudes, the sign in the top bit."""
    return [
        Code(code + (negative << (bits - 1)), negative, magnitude, tie)
        for negative in (False, True)
        for code, (magnitude, tie) in enumerate(magnitudes)
    ]


def fixed(w: int, f: int) -> list[Code]:
    integers = [(c, c - 2**w if c >= 2 ** (w - 1) else c) for c in range(2**w)]
    return [Code(c, v < 0, abs(v) * power(-f), even(c)) for c, v in integers]


def ufixed(w: int, f: int) -> list[Code]:
    return [Code(c, False, c * power(-f), even(c)) for c in range(2**w)]


def minifloat(e: int, m: int, bias: int, special: str) -> list[Code]:
    def meaning(exponent: int, mantissa: int) -> Meaning:
        top = exponent == 2**e - 1
        if special == "ieee" and top:
            return NAN if mantissa else INFINITY
        if special == "nan" and top and mantissa == 2**m - 1:
            return NAN
        if exponent == 0:
            return mantissa * power(1 - bias - m)
        return (1 + mantissa * power(-m)) * power(exponent - bias)

    codes = range(2 ** (e + m))
    return signed(1 + e + m, [(meaning(c >> m, c & (2**m - 1)), even(c)) for c in codes])


def dmf(e: int, m: int, bias: int) -> list[Code]:
    fields_of = [(c >> m, c & (2**m - 1)) for c in range(2 ** (e + m))]
    # The even mantissa; with m = 1, where every mantissa is 1, the even exponent.
    meanings = [(M * power(E - bias - m), (M & 1, E & 1)) for E, M in fields_of]
    return signed(1 + e + m, meanings)


def log(w: int, bias: int) -> list[Code]:
    magnitudes = [Fraction(0), *(power(E - bias) for E in range(1, 2 ** (w - 1)))]
    return signed(w, [(magnitude, ()) for magnitude in magnitudes])


def binary() -> list[Code]:
    return [Code(0, False, Fraction(1), even(0)), Code(1, True, Fraction(1), even(1))]


def ternary() -> list[Code]:
    # Two's complement; code 2 is never written and reads as -1.
    meanings = {0: (False, 0), 1: (False, 1), 3: (True, 1), 2: (True, 1)}
    return [Code(c, n, Fraction(m), even(c)) for c, (n, m) in meanings.items()]


def table(name: str) -> list[Code]:
    """QLoRA, appendix E: NF4's published float32 values."""
    assert name == "nf4"
    negative = "1.0 0.6961928009986877 0.5250730514526367 0.39491748809814453 "
    negative += "0.28444138169288635 0.18477343022823334 0.09105003625154495"
    positive = "0.0 0.07958029955625534 0.16093020141124725 0.24611230194568634 "
    positive += "0.33791524171829224 0.44070982933044434 0.5626170039176941 0.7229568362236023 1.0"
    values = [-Fraction(float(v)) for v in negative.split()]
    values += [Fraction(float(v)) for v in positive.split()]
    return [Code(c, v < 0, abs(v), even(c)) for c, v in enumerate(values)]


def pow2(e: int, bias: int) -> list[Code]:
    nan = 255 if (e, bias) == (8, 127) else None
    return [Code(c, False, NAN if c == nan else power(c - bias), ()) for c in range(2**e)]


FAMILIES: dict[str, Callable[..., list[Code]]] = {
    "Fixed": fixed,
    "UFixed": ufixed,
    "Minifloat": minifloat,
    "DenormedMinifloat": dmf,
    "Log": log,
    "Binary": binary,
    "Ternary": ternary,
    "Table": table,
    "Pow2": pow2,
}


def codes_of(fmt) -> list[Code]:
    """What every code of a scalar format means."""
    return FAMILIES[type(fmt).__name__](*(getattr(fmt, f.name) for f in fields(fmt)))


def float_above(bound: Fraction) -> float:
    """The smallest float64 above a fraction."""
    near = float(bound)
    return near if Fraction(near) > bound else nextafter(near, np.inf)


def nearest_boundary(low: Code, high: Code) -> float:
    """The smallest float64 that rounds to `high` and not to its neighbour `low`."""
    middle = (low.value + high.value) / 2
    if high.tie < low.tie and Fraction(float(middle)) == middle:
        return float(middle)
    return float_above(middle)


def log_boundary(low: Code, high: Code) -> float:
    """The same in the log domain: between 2^k and 2^(k+1), and between 0 and 2^k, is 2^k sqrt2."""
    larger = max(low.magnitude, high.magnitude)
    # sqrt(2) lies strictly between two neighbours of 53 significant bits.
    below = isqrt(2 << 104) * power(-52) * larger / 2
    return -float(below) if high.value <= 0 else float_above(below)


def floor_boundary(low: Code, high: Code) -> float:
    """Scales round down."""
    return float(high.value)


BOUNDARIES = {"Log": log_boundary, "Pow2": floor_boundary}


@dataclass(frozen=True)
class Grid:
    """The values of a format in ascending order, and where rounding moves on to the next one.

    boundaries[i] is the smallest float64 that rounds to values[i + 1].
    codes: the code that is written for each value; negative_zero: that of -0, or None.
    """

    values: np.ndarray
    codes: np.ndarray
    boundaries: np.ndarray
    infinity: bool
    negative_zero: int | None

    def round(self, x: np.ndarray) -> np.ndarray:
        """Round float64 numbers; the format's own zero for zero, NaN for NaN."""
        index = np.searchsorted(self.boundaries, np.nan_to_num(x, nan=0.0), side="right")
        value = self.values[index]
        if self.negative_zero is not None:
            value = np.where(value == 0, np.copysign(0.0, x), value)
        if self.infinity:
            value = np.where(np.isinf(x), x, value)
        return np.where(np.isnan(x), np.nan, value)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """The codes of numbers rounded to finite values."""
        index = np.searchsorted(self.boundaries, x, side="right")
        code = self.codes[index]
        if self.negative_zero is None:
            return code
        zero = self.values[index] == 0
        return np.where(zero & np.signbit(x), self.negative_zero, code)

    def between(self, low: float, high: float) -> Grid:
        """The part of the grid from one of its values to another; the rest saturates."""
        keep = (self.values >= low) & (self.values <= high)
        first, last = np.flatnonzero(keep)[[0, -1]]
        return Grid(
            self.values[keep],
            self.codes[keep],
            self.boundaries[first:last],
            self.infinity,
            self.negative_zero,
        )


@cache
def grid_of(fmt) -> Grid:
    """The grid of a scalar format of at most 16 bits."""
    finite = [c for c in codes_of(fmt) if isinstance(c.magnitude, Fraction)]
    written: dict[Fraction, Code] = {}
    for code in sorted(finite, key=lambda c: c.bits, reverse=type(fmt).__name__ == "Ternary"):
        written.setdefault(code.value, code)
    ordered = [written[value] for value in sorted(written)]
    boundary = BOUNDARIES.get(type(fmt).__name__, nearest_boundary)
    exact = [float(c.value) for c in ordered]
    assert all(Fraction(v) == c.value for v, c in zip(exact, ordered, strict=True))
    return Grid(
        np.array(exact),
        np.array([c.bits for c in ordered]),
        np.array([boundary(low, high) for low, high in pairwise(ordered)]),
        any(c.magnitude == INFINITY for c in codes_of(fmt)),
        next((c.bits for c in finite if c.negative and c.magnitude == 0), None),
    )
