"""The quotient that compiled GPU code takes by fused multiply-adds equals the IEEE quotient.

A CPU compiles the same multiply-adds, fused as well, so that it can judge them; a GPU, where there
is one, starts from a reciprocal of its own.
"""

import pytest
import torch
from torch import Tensor

from quire.formats.carrier import corrected_reciprocal, fused_quotient

# Raised inside torch while its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

COUNT = 1 << 20
DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]
on_each_device = pytest.mark.parametrize("device", DEVICES)
quotient = torch.compile(fused_quotient, fullgraph=True, dynamic=False)
reciprocal = torch.compile(corrected_reciprocal, fullgraph=True, dynamic=False)


def positive(generator: torch.Generator, lowest: int, highest: int) -> Tensor:
    """Random significands under exponents `lowest` to `highest`."""
    mantissa = torch.randint(0, 1 << 23, (COUNT,), generator=generator)
    exponent = torch.randint(lowest + 127, highest + 128, (COUNT,), generator=generator)
    return ((exponent << 23) | mantissa).int().view(torch.float32)


def shifted(x: Tensor, units: int) -> Tensor:
    """Each number moved by some units of its last place."""
    return (x.view(torch.int32) + units).view(torch.float32)


def assert_exact(a: Tensor, b: Tensor, device: str):
    expected = a / b
    judged = (a == 0) | ((expected >= 2.0**-80) & (expected < 2.0**100))
    assert judged.any()
    wrong = judged & (quotient(a.to(device), b.to(device)).cpu() != expected)
    assert not wrong.any(), f"{a[wrong][0].item().hex()} / {b[wrong][0].item().hex()}"


def halves_of_power(odd: Tensor, power: int) -> Tensor:
    """The inverse of 2^power modulo odd numbers."""
    inverse = torch.ones_like(odd)
    for _ in range(power):
        inverse = torch.where(inverse % 2 == 0, inverse, inverse + odd) // 2
    return inverse


@on_each_device
@pytest.mark.parametrize("exponents", [(0, 0), (-126, 127)], ids=["near one", "all"])
def test_random_quotients(exponents, device):
    generator = torch.Generator().manual_seed(0)
    assert_exact(positive(generator, *exponents), positive(generator, *exponents), device)


@on_each_device
@pytest.mark.parametrize("units", [-1, 0, 1])
@pytest.mark.parametrize("smallest", [True, False], ids=["subnormal", "normal"])
def test_quotients_near_the_ties_of_elements(units, smallest, device):
    generator = torch.Generator().manual_seed(1)
    b = positive(generator, -126, 110)
    if smallest:
        b = torch.randint(1, 1 << 23, (COUNT,), generator=generator).int().view(torch.float32)
    ties = torch.randint(1, 256, (COUNT,), generator=generator) / 2
    assert_exact(shifted((b.double() * ties).float(), units), b, device)


@on_each_device
@pytest.mark.parametrize("power", [24, 25])
@pytest.mark.parametrize("distance", [1, -1, 3, -3])
def test_quotients_nearest_to_the_middle_of_two_numbers(power, distance, device):
    # a 2^power = distance modulo b: the quotient is distance / 2b units from a middle.
    generator = torch.Generator().manual_seed(2)
    odd = torch.randint(1 << 23, 1 << 24, (COUNT,), generator=generator) | 1
    a = halves_of_power(odd, power) * distance % odd
    assert_exact(a.float(), odd.float(), device)


@on_each_device
def test_quotients_of_the_largest_significands(device):
    last = torch.arange((1 << 24) - 1024, 1 << 24).float()
    assert_exact(last.repeat_interleave(1024), last.repeat(1024), device)


@pytest.mark.parametrize("units", [-4, -2, -1, 0, 1, 2, 4])
@on_each_device
def test_every_reciprocal_is_corrected(units, device):
    b = torch.arange(0x3F800000, 0x40000000, dtype=torch.int32).view(torch.float32)
    exact = (1 / b.double()).float()
    start = shifted(exact, units)
    wrong = reciprocal(b.to(device), start.to(device)).cpu() != exact
    all_ones = b == 2 - 2.0**-23
    assert not (wrong & ~all_ones).any()
