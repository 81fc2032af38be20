"""Powers of two as block scales (E8M0 of the OCP Microscaling specification 1.0, and others)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats.bias import Biased, ieee_bias
from quire.formats.carrier import FLOAT64, carrier_of
from quire.formats.registry import check_range, family


@family("pow2", "pow2(4,bias=3)")
@dataclass(frozen=True, repr=False)
class Pow2(Biased):
    """`pow2(e)`: code c means 2^(c-bias). Every code is finite; only `pow2(8)` keeps 255 for NaN.

    As a block scale it holds an exponent. On its own it rounds down, as the scale rule does
    (floor of log2), and zero and negative values take the smallest power.
    """

    e: int
    bias: int | None = None

    def __post_init__(self) -> None:
        check_range("pow2", "e", self.e, 1, 10)
        self.fill_bias("pow2", -512, 1023)
        if not -768 <= self.smallest_exponent <= self.emax <= 768:
            raise FormatError(
                f"{self.long_form()}: exponents {self.smallest_exponent} to {self.emax} leave"
                " -768 to 768: choose another bias"
            )

    def long_form(self) -> str:
        return f"pow2({self.e}{self.bias_text})"

    @property
    def default_bias(self) -> int:
        return ieee_bias(self.e)

    @property
    def bits(self) -> int:
        return self.e

    @property
    def nan_code(self) -> int | None:
        return 255 if self == Pow2(8) else None

    @property
    def smallest_exponent(self) -> int:
        """The exponent that code 0 means."""
        return -self.exponent_bias

    @property
    def emax(self) -> int:
        return 2**self.e - 1 - self.exponent_bias - (self.e == 8 and self.exponent_bias == 127)

    @property
    def highest(self) -> float:
        return 2.0**self.emax

    @property
    def lowest(self) -> float:
        return 2.0**self.smallest_exponent

    @property
    def precision(self) -> int:
        return 1

    @property
    def quantum_exponent(self) -> int:
        return self.smallest_exponent

    def grid(self, y: Tensor) -> Tensor:
        c = carrier_of(y)
        power = c.to_float(c.to_bits(y.clamp(min=self.lowest)) & c.infinity_bits)
        # A power that is subnormal in the carrier, 2^-bias, has an exponent field of zero.
        return torch.where(y.isnan(), y, power.clamp(min=self.lowest))

    def codes_of(self, values: Tensor) -> Tensor:
        exponent = FLOAT64.floor_log2_bits(FLOAT64.to_bits(values))
        return torch.where(values.isnan(), self.nan_code or 0, exponent + self.exponent_bias)

    def values_of(self, codes: Tensor) -> Tensor:
        power = FLOAT64.power_of_two(codes - self.exponent_bias)
        return torch.where(codes == self.nan_code, torch.nan, power) if self.nan_code else power
