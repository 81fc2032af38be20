"""Integers wider than an element of a tensor, as exact values: limb by limb."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from quire.ops.exact_arithmetic import add
from quire.ops.exact_value import Exact, from_integer

LIMB = 48
"""Bits of an integer that are taken at a time."""


def from_limbs(limbs: Sequence[Tensor], exponent: int) -> Exact:
    """The sum of limb k * 2^(LIMB k + exponent); limbs: int64, of one shape."""
    return reduce(add, (from_integer(limb, exponent + LIMB * k) for k, limb in enumerate(limbs)))


def exactly(integers: Sequence[int], exponent: int) -> Exact:
    """integers * 2^exponent, of any width."""
    width = max(abs(n) for n in integers).bit_length()
    limbs = [
        torch.tensor([_limb(n, low) for n in integers]) for low in range(0, max(width, 1), LIMB)
    ]
    return from_limbs(limbs, exponent)


def _limb(number: int, low: int) -> int:
    """The bits of a number from `low` on, with its sign."""
    limb = abs(number) >> low & ((1 << LIMB) - 1)
    return limb if number >= 0 else -limb
