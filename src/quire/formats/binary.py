"""Binary and ternary: signs, with and without zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quire.formats.base import Scalar
from quire.formats.carrier import FLOAT64
from quire.formats.registry import family


def mean_magnitude(blocks: Tensor, dims: tuple[int, ...], count: Tensor | int) -> Tensor:
    """The mean of |x| over each block, float64: the scale with which signs err the least.

    blocks: values with padding zeros; dims: the dimensions of a block; count: values a block.
    The source is XNOR-Net (Rastegari et al., 2016, section 3.1). Magnitudes are cut 30 bits below
    the block's top exponent and summed as int64, so that no order of summation matters.
    """
    a = blocks.double().abs()
    a = torch.where(a.isfinite(), a, 0.0)
    top = FLOAT64.floor_log2_bits(FLOAT64.to_bits(a.amax(dims, keepdim=True))).clamp(min=-900)
    total = (a * FLOAT64.power_of_two(30 - top)).floor().long().sum(dims, keepdim=True)
    return total.double() / (count * FLOAT64.power_of_two(30 - top))


class _Signs(Scalar):
    """What binary and ternary share: magnitudes of at most one."""

    @property
    def highest(self) -> float:
        return 1.0

    @property
    def lowest(self) -> float:
        return -1.0

    @property
    def emax(self) -> int:
        return 0

    @property
    def precision(self) -> int:
        return 1

    @property
    def quantum_exponent(self) -> int:
        return 0

    @property
    def nan_code(self) -> None:
        return None


@family("binary", "binary")
@dataclass(frozen=True, repr=False)
class Binary(_Signs):
    """`binary`: -1 (code 1) and +1 (code 0); both zeros become +1."""

    block_scale = staticmethod(mean_magnitude)

    def long_form(self) -> str:
        return "binary"

    @property
    def bits(self) -> int:
        return 1

    def grid(self, y: Tensor) -> Tensor:
        # Continued beyond the range: the odd integers, so that the clamp acts from |y| = 2 on.
        odd = 2 * torch.floor(y.abs() / 2) + 1
        return torch.where(y < 0, -odd, odd)

    def codes_of(self, values: Tensor) -> Tensor:
        return (values < 0).long()

    def values_of(self, codes: Tensor) -> Tensor:
        return 1.0 - 2.0 * codes.double()


@family("ternary", "ternary")
@dataclass(frozen=True, repr=False)
class Ternary(_Signs):
    """`ternary`: -1, 0 and +1, two stored bits (1.58 bits of information), two's complement."""

    def long_form(self) -> str:
        return "ternary"

    @property
    def bits(self) -> int:
        return 2

    def grid(self, y: Tensor) -> Tensor:
        value = torch.round(y)
        return torch.where(value == 0, 0.0, value)

    def codes_of(self, values: Tensor) -> Tensor:
        return values.long() & 3

    def values_of(self, codes: Tensor) -> Tensor:
        # Code 2 (-2 in two's complement) is never written; it is read as -1.
        return torch.where(codes < 2, codes, -1).double()
