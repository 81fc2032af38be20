"""Minifloats: sign, exponent and mantissa fields, with gradual underflow.

Special values follow IEEE 754-2019 (fp16, bf16, e5m2) or the OCP 8-bit floating point
specification 1.0 (e4m3: NaN at the all-ones code only); without them every code is finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats.bias import Biased, ieee_bias
from quire.formats.carrier import FLOAT64, FloatGrid
from quire.formats.registry import check_range, family


@dataclass(frozen=True)
class _Special:
    """Where codes stop being finite: binades lost at the top, mantissa codes lost in the last."""

    binades: int
    mantissas: int
    infinity: bool


SPECIALS = {
    "none": _Special(0, 0, False),
    "nan": _Special(0, 1, False),
    "ieee": _Special(1, 0, True),
}


@family("minifloat", "minifloat(e=4,m=3)")
@dataclass(frozen=True, repr=False)
class Minifloat(Biased):
    """`minifloat(e,m)`: field E = 0 means M/2^m * 2^(1-bias), else (1 + M/2^m) * 2^(E-bias).

    special: "none" (every code finite), "ieee" (top exponent Inf and NaN), "nan" (all ones NaN).
    """

    has_signed_zero = True

    e: int
    m: int
    bias: int | None = None
    special: str = "none"

    def __post_init__(self) -> None:
        check_range("minifloat", "e", self.e, 1, 8)
        check_range("minifloat", "m", self.m, 0, 23)
        self.fill_bias("minifloat")
        if self.special not in SPECIALS:
            legal = ", ".join(SPECIALS)
            raise FormatError(f"minifloat: special={self.special!r} is not one of {legal}")
        lost = SPECIALS[self.special]
        if (lost.mantissas and self.m == 0) or (lost.binades and (self.e < 2 or self.m == 0)):
            raise FormatError(
                f"minifloat(e={self.e},m={self.m}): too few codes for special={self.special!r}"
            )

    def long_form(self) -> str:
        special = "" if self.special == "none" else f",special={self.special}"
        return f"minifloat(e={self.e},m={self.m}{self.bias_text}{special})"

    @property
    def default_bias(self) -> int:
        return ieee_bias(self.e)

    @property
    def has_infinity(self) -> bool:  # type: ignore[override]
        return SPECIALS[self.special].infinity

    @property
    def bits(self) -> int:
        return 1 + self.e + self.m

    @property
    def emin(self) -> int:
        """The exponent of the smallest normal value."""
        return 1 - self.exponent_bias

    @property
    def emax(self) -> int:
        return 2**self.e - 1 - self.exponent_bias - SPECIALS[self.special].binades

    @property
    def highest(self) -> float:
        top = 2 ** (self.m + 1) - 1 - SPECIALS[self.special].mantissas
        return top * 2.0 ** (self.emax - self.m)

    @property
    def lowest(self) -> float:
        return -self.highest

    @property
    def precision(self) -> int:
        return self.m + 1

    @property
    def quantum_exponent(self) -> int:
        return self.emin - self.m

    @property
    def nan_code(self) -> int | None:
        codes = {"none": None, "nan": 2 ** (self.bits - 1) - 1}
        quiet = ((2**self.e - 1) << self.m) | (1 << self.m >> 1)
        return codes.get(self.special, quiet)

    def grid(self, y: Tensor) -> Tensor:
        return FloatGrid(self.m, self.emin, self.emax, self.exponent_bias).round(y)

    def codes_of(self, values: Tensor) -> Tensor:
        a = values.abs()
        exponent = FLOAT64.floor_log2_bits(FLOAT64.to_bits(a))
        stored = torch.where(a == 0, self.emin, exponent).clamp(min=self.emin)
        significand = (a * FLOAT64.power_of_two(self.m - stored)).nan_to_num(posinf=0).long()
        finite = ((stored - self.emin) << self.m) + significand
        infinity = torch.where(values.isinf(), (2**self.e - 1) << self.m, finite)
        code = torch.where(values.isnan(), self.nan_code or 0, infinity)
        return code | (values.signbit().long() << (self.bits - 1))

    def values_of(self, codes: Tensor) -> Tensor:
        field = (codes >> self.m) & (2**self.e - 1)
        mantissa = codes & (2**self.m - 1)
        significand = torch.where(field == 0, mantissa, mantissa + 2**self.m)
        a = significand * FLOAT64.power_of_two(field.clamp(min=1) - self.exponent_bias - self.m)
        a = torch.where(a <= self.highest, a, torch.nan)
        if self.has_infinity:
            top = (2**self.e - 1) << self.m
            a = torch.where(codes & (2 ** (self.bits - 1) - 1) == top, torch.inf, a)
        return torch.where(codes >> (self.bits - 1) == 1, -a, a)
