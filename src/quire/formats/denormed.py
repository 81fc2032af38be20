"""Denormed minifloats: an exponent field and a mantissa without a hidden bit.

Every exponent behaves like the subnormals of a minifloat, so values have several codes; hardware
needs no special case for zero exponents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quire.formats.bias import Biased, ieee_bias
from quire.formats.carrier import FLOAT64, FloatGrid
from quire.formats.registry import check_range, family


@family("dmf", "dmf(e=4,m=3)")
@dataclass(frozen=True, repr=False)
class DenormedMinifloat(Biased):
    """`dmf(e,m)`: M/2^m * 2^(E-bias) at every E. `codes_of` gives the smallest E."""

    has_signed_zero = True

    e: int
    m: int
    bias: int | None = None

    def __post_init__(self) -> None:
        check_range("dmf", "e", self.e, 1, 8)
        check_range("dmf", "m", self.m, 1, 24)
        self.fill_bias("dmf")

    def long_form(self) -> str:
        return f"dmf(e={self.e},m={self.m}{self.bias_text})"

    @property
    def default_bias(self) -> int:
        return ieee_bias(self.e)

    @property
    def bits(self) -> int:
        return 1 + self.e + self.m

    @property
    def emax(self) -> int:
        return 2**self.e - 1 - self.exponent_bias - 1

    @property
    def highest(self) -> float:
        return (2**self.m - 1) * 2.0 ** (2**self.e - 1 - self.exponent_bias - self.m)

    @property
    def lowest(self) -> float:
        return -self.highest

    @property
    def precision(self) -> int:
        return self.m

    @property
    def quantum_exponent(self) -> int:
        return -self.exponent_bias - self.m

    @property
    def nan_code(self) -> None:
        return None

    def grid(self, y: Tensor) -> Tensor:
        # As a set of values: m - 1 fraction bits, with gradual underflow below 2^(-bias - 1).
        smallest = -self.exponent_bias - 1
        return FloatGrid(self.m - 1, smallest, self.emax, self.exponent_bias + 1).round(y)

    def codes_of(self, values: Tensor) -> Tensor:
        a = values.abs()
        exponent = FLOAT64.floor_log2_bits(FLOAT64.to_bits(a)) + 1
        field = (exponent + self.exponent_bias).clamp(min=0)
        field = torch.where(a == 0, 0, field)
        mantissa = (a * FLOAT64.power_of_two(self.exponent_bias + self.m - field)).long()
        return (field << self.m) + mantissa + (values.signbit().long() << (self.bits - 1))

    def values_of(self, codes: Tensor) -> Tensor:
        field = (codes >> self.m) & (2**self.e - 1)
        mantissa = (codes & (2**self.m - 1)).double()
        a = mantissa * FLOAT64.power_of_two(field - self.exponent_bias - self.m)
        return torch.where(codes >> (self.bits - 1) == 1, -a, a)
