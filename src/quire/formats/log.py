"""Logarithmic numbers: signed powers of two, rounded in the log domain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.formats.bias import Biased
from quire.formats.carrier import FLOAT64, carrier_of
from quire.formats.registry import check_range, family


def _above_sqrt2(mantissa: int) -> int:
    """The first mantissa field whose significand exceeds sqrt(2), which is irrational: no ties."""
    return math.isqrt(2 << (2 * mantissa)) + 1 - (1 << mantissa)


@family("log", "log(8)")
@dataclass(frozen=True, repr=False)
class Log(Biased):
    """`log(w)`: +-2^(E-bias) with E in 1..2^(w-1)-1; E = 0 is zero."""

    has_signed_zero = True

    w: int
    bias: int | None = None

    def __post_init__(self) -> None:
        check_range("log", "w", self.w, 2, 10)
        self.fill_bias("log")

    def long_form(self) -> str:
        return f"log({self.w}{self.bias_text})"

    @property
    def default_bias(self) -> int:
        return 2 ** (self.w - 2) - 1

    @property
    def bits(self) -> int:
        return self.w

    @property
    def emin(self) -> int:
        """The exponent of the smallest positive value."""
        return 1 - self.exponent_bias

    @property
    def emax(self) -> int:
        return 2 ** (self.w - 1) - 1 - self.exponent_bias

    @property
    def highest(self) -> float:
        return 2.0**self.emax

    @property
    def lowest(self) -> float:
        return -self.highest

    @property
    def precision(self) -> int:
        return 1

    @property
    def quantum_exponent(self) -> int:
        return self.emin

    @property
    def nan_code(self) -> None:
        return None

    def grid(self, y: Tensor) -> Tensor:
        c = carrier_of(y)
        threshold = _above_sqrt2(c.mantissa)
        smallest = 2.0**self.emin
        # The carrier's last number below 2^(emin - 1/2), which may be subnormal there.
        kept = c.mantissa - 1 if self.emin == 1 - c.bias else c.mantissa
        to_zero = smallest / 2 * math.isqrt(2 << (2 * kept)) * 2.0**-kept
        bits = c.to_bits(y).clamp(min=c.bits_of(smallest)) + ((1 << c.mantissa) - threshold)
        power = c.to_float(bits & -(1 << c.mantissa))
        return torch.where(y > to_zero, power, y * 0.0)  # NaN stays NaN

    def codes_of(self, values: Tensor) -> Tensor:
        a = values.abs()
        exponent = FLOAT64.floor_log2_bits(FLOAT64.to_bits(a))
        field = torch.where(a == 0, 0, exponent + self.exponent_bias)
        return field + (values.signbit().long() << (self.w - 1))

    def values_of(self, codes: Tensor) -> Tensor:
        field = codes & (2 ** (self.w - 1) - 1)
        power = FLOAT64.power_of_two(field - self.exponent_bias)
        a = torch.where(field == 0, 0.0, power)
        return torch.where(codes >> (self.w - 1) == 1, -a, a)
