"""IEEE floats as carriers: the rounding primitives, on the bits of a float32 or float64 tensor.

A carrier is the IEEE type in which a format computes. Its bits are used because they make rounding
exact and cheap, survive every compiler (no round trip that could be folded away), and treat all
devices alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.errors import FormatError


@dataclass(frozen=True)
class Carrier:
    """An IEEE binary type: its torch dtypes and the widths of its fields."""

    dtype: torch.dtype
    bits_dtype: torch.dtype
    mantissa: int
    bias: int

    @property
    def sign_bit(self) -> int:
        """The sign bit as a signed integer (the most negative one)."""
        return torch.iinfo(self.bits_dtype).min

    @property
    def magnitude_bits(self) -> int:
        """The mask of everything but the sign."""
        return torch.iinfo(self.bits_dtype).max

    @property
    def infinity_bits(self) -> int:
        """The bits of +Inf; larger magnitudes are NaN."""
        return (2 * self.bias + 1) << self.mantissa

    def bits_of(self, value: float) -> int:
        """The bits of a number of this type that is not negative."""
        exponent = max(math.frexp(value)[1] - 1, 1 - self.bias) if value else 1 - self.bias
        significand = int(math.ldexp(value, self.mantissa - exponent))
        return ((exponent + self.bias - 1) << self.mantissa) + significand

    def to_bits(self, x: Tensor) -> Tensor:
        return x.view(self.bits_dtype)

    def to_float(self, bits: Tensor) -> Tensor:
        return bits.view(self.dtype)

    def power_of_two(self, exponent: Tensor) -> Tensor:
        """2^exponent, exactly, for integer exponents from -bias to bias (-bias is subnormal)."""
        subnormal = 1 << (self.mantissa - 1)
        bits = torch.where(
            exponent > -self.bias, (exponent + self.bias) << self.mantissa, subnormal
        )
        return self.to_float(bits)

    def floor_log2_bits(self, magnitude_bits: Tensor) -> Tensor:
        """floor(log2 a) from the bits of a normal a > 0; -bias for subnormals and zero."""
        return (magnitude_bits >> self.mantissa) - self.bias


FLOAT32 = Carrier(torch.float32, torch.int32, 23, 127)
FLOAT64 = Carrier(torch.float64, torch.int64, 52, 1023)
CARRIERS = {c.dtype: c for c in (FLOAT32, FLOAT64)}

# Significand bits (the hidden one included), largest exponent and exponent of the smallest
# subnormal of the input types (IEEE 754-2019 table 3.5; bfloat16: the upper half of binary32).
INPUT_RANGES = {
    torch.bfloat16: (8, 127, -133),
    torch.float16: (11, 15, -24),
    torch.float32: (24, 127, -149),
    torch.float64: (53, 1023, -1074),
}


def carrier_of(x: Tensor) -> Carrier:
    """The carrier whose dtype a tensor already has."""
    return CARRIERS[x.dtype]


def check_input_dtype(x: Tensor) -> None:
    """Raise unless `x` is a real floating-point tensor of a known type."""
    if not isinstance(x, Tensor):
        raise FormatError(f"cannot quantize a {type(x).__name__}: give a torch.Tensor")
    if x.dtype not in INPUT_RANGES:
        legal = ", ".join(str(d).removeprefix("torch.") for d in INPUT_RANGES)
        raise FormatError(
            f"cannot quantize a tensor of dtype {str(x.dtype).removeprefix('torch.')}: "
            f"convert it to one of {legal} first"
        )


def split_sign(x: Tensor) -> tuple[Tensor, Tensor]:
    """The sign bit (an integer tensor) and the magnitude (a float tensor) of `x`."""
    c = carrier_of(x)
    bits = c.to_bits(x)
    return bits & c.sign_bit, c.to_float(bits & c.magnitude_bits)


def join_sign(sign: Tensor, magnitude: Tensor) -> Tensor:
    """The inverse of `split_sign`; uses up the memory of `sign`."""
    c = carrier_of(magnitude)
    return c.to_float(sign.bitwise_or_(c.to_bits(magnitude)))


def at_most(a: Tensor, highest: float) -> Tensor:
    """The smaller of magnitudes and a number; NaN becomes the number.

    On the bits, which are ordered: a float minimum has to look at NaN apart.
    """
    c = carrier_of(a)
    return c.to_float(c.to_bits(a).clamp(max=c.bits_of(highest)))


def saturate(value: Tensor, largest: float) -> Tensor:
    """Clamp to `largest` in magnitude; NaN stays NaN."""
    if not value.is_cuda:
        return value.clamp(-largest, largest)
    # Comparisons are false for NaN, where a clamp in compiled GPU code tests for it each time.
    value = torch.where(value > largest, largest, value)
    return torch.where(value < -largest, -largest, value)


def round_significand(a: Tensor, fraction_bits: int, exponent_parity: int) -> Tensor:
    """Round magnitudes to `fraction_bits` bits after the leading one, ties to the even code.

    With no fraction bits a tie lies between two powers of two, and the even code is the one whose
    exponent field is even: `exponent_parity` is the parity of (format's field - exponent).
    A carry into the exponent is right by itself, because the bits of IEEE floats are ordered.
    """
    c = carrier_of(a)
    drop = c.mantissa - fraction_bits
    if drop <= 0:
        return a
    bits = c.to_bits(a)
    odd = (bits >> drop) & 1
    if fraction_bits == 0 and (exponent_parity - c.bias) % 2:
        odd = 1 - odd
    return c.to_float((bits + odd + ((1 << (drop - 1)) - 1)) & -(1 << drop))


def round_to_multiple(y: Tensor, exponent: int) -> Tensor:
    """Round to a multiple of 2^exponent, ties to the even multiple; zero is +0.

    Adding and subtracting 3/2 * 2^(exponent + mantissa bits) leaves just those bits; exact for
    |y| <= 2^(exponent + mantissa bits - 1).
    """
    magic = 1.5 * 2.0 ** (exponent + carrier_of(y).mantissa)
    return (y + magic) - magic


def round_within(y: Tensor, exponent: int, lowest: float, highest: float) -> Tensor:
    """`round_to_multiple` clamped to two multiples; any y, of which NaN becomes one of them.

    While the magic number is added the bits are ordered as the values are, those of negative sums
    included, and clamp faster than floats, which have to look at NaN apart.
    """
    c = carrier_of(y)
    magic = 1.5 * 2.0 ** (exponent + c.mantissa)
    low, high = c.bits_of(magic + lowest), c.bits_of(magic + highest)
    return c.to_float(c.to_bits(y + magic).clamp(low, high)) - magic


@dataclass(frozen=True)
class FloatGrid:
    """A floating-point grid with gradual underflow.

    fraction_bits: bits after the leading one. emin, emax: exponents of the smallest normal and of
    the largest value. parity: (the format's exponent field - exponent) of a value, modulo 2.
    """

    fraction_bits: int
    emin: int
    emax: int
    parity: int

    def round(self, a: Tensor) -> Tensor:
        """Round magnitudes up to twice the largest, ties to the even code; NaN stays NaN."""
        c = carrier_of(a)
        drop = c.mantissa - self.fraction_bits
        if self.fraction_bits == 0 or self.emax + 1 + drop > c.bias:
            return self._by_significand(a, drop)
        # Adding 2^(exponent + drop) leaves the wanted bits, as in `round_to_multiple`.
        # In place, because in eager mode fresh memory costs more than the arithmetic.
        field = c.to_bits(a) & c.infinity_bits
        field.clamp_(min=(self.emin + c.bias) << c.mantissa)
        magic = c.to_float(field.add_(drop << c.mantissa))
        return (a + magic).sub_(magic)

    def _by_significand(self, a: Tensor, drop: int) -> Tensor:
        """For ties between powers of two, and for exponents up to those of the carrier."""
        normal = round_significand(a, self.fraction_bits, self.parity)
        magic = 2.0 ** (self.emin + drop)
        return torch.where(a >= 2.0**self.emin, normal, (a + magic) - magic)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """The IEEE quotient a / b, on every device and under every compiler.

    Compiled GPU code divides float32 approximately. There the quotient is taken in float64 by a
    reciprocal (relative error below 2^-52) and rounded once to float32: a quotient of two 24-bit
    significands is never nearer than 2^-49 to the middle of two float32 numbers.
    """
    if a.dtype == torch.float32 and a.is_cuda:
        return (a.double() * b.double().reciprocal()).float()
    return a / b


def divide_moderate(a: Tensor, b: Tensor) -> Tensor:
    """a / b for b >= 0 and quotients below 2^100: exact as `divide` from 2^-80 on, else about it.

    The sign of a zero is lost, and b = 0 gives anything. In compiled GPU code a float64 product a
    value is slow, so a quotient q is corrected by its exact remainder: with r = RN(1/b),
    q = RN(a r) is within 3/2 units of its last place, a - q b is exact, and RN(q + (a - q b) r) is
    RN(a / b), since 1/b is missed by less than the distance of a / b from the middle of two
    float32 numbers (Markstein, "Computation of elementary functions on the IBM RISC System/6000
    processor", 1990; tests/unit/formats/test_division.py has the cases).
    """
    return fused_quotient(a, b) if fuses(a) else divide(a, b)


def fuses(a: Tensor) -> bool:
    """Whether fused multiply-adds give quotients: in compiled GPU code.

    Not in a plain export, whose graph may run without a compiler that fuses.
    """
    return a.dtype == torch.float32 and a.is_cuda and torch.compiler.is_dynamo_compiling()


def fused_quotient(a: Tensor, b: Tensor) -> Tensor:
    """`divide_moderate` by fused multiply-adds; both are first scaled so that b is near 1."""
    from torch._inductor.inductor_prims import fma

    c = FLOAT32
    # 2^-floor(log2 b), of which 2^127 and 2^-126 are the extremes.
    exponent = ((2 * c.bias) << c.mantissa) - (c.to_bits(b) & c.infinity_bits)
    power = c.to_float(exponent.clamp(min=1 << c.mantissa))
    a, b = a * power, b * power
    r = corrected_reciprocal(b, b.reciprocal())
    q = a * r
    return fma(fma(-q, b, a), r, q)


def corrected_reciprocal(b: Tensor, r: Tensor) -> Tensor:
    """RN(1/b) from an `r` that is some units of its last place away, for b near 1.

    Where the significand of b is all ones the result may be the other neighbour of 1/b.
    """
    from torch._inductor.inductor_prims import fma

    one = torch.ones_like(b)
    for _ in range(2):
        r = fma(fma(-b, r, one), r, r)
    return r
