"""Streams: what flows between the stages of a design, beat by beat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from quire.errors import HardwareError
from quire.formats import Block, Format, Pow2, Scalar, parse
from quire.formats.layout import WHOLE_TENSOR
from quire.hardware.elements import interval
from quire.precision.cast import StaticScale

WHOLE_ROW = 1 << 30
"""The size of a block that spans a row of any length."""


@dataclass(frozen=True)
class Integers:
    """Exact values: two's complement integers from `low` to `high`, times 2^exponent."""

    low: int
    high: int
    exponent: int

    @property
    def bits(self) -> int:
        """Bits of the two's complement; 2 at least."""
        return max(2, 1 + max(self.high, -self.low - 1, 0).bit_length())

    @property
    def beat_scale_bits(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"int{self.bits} * 2^{self.exponent}"


@dataclass(frozen=True)
class Codes:
    """Codes of a number format. scale: a static scale, where the format has a real one."""

    format: Format
    scale: StaticScale = None

    @property
    def element(self) -> Scalar:
        """The scalar format of one value."""
        element = self.format.element if isinstance(self.format, Block) else self.format
        assert isinstance(element, Scalar)
        return element

    @property
    def bits(self) -> int:
        """Bits of one value."""
        return self.element.bits

    @property
    def dynamic_scale(self) -> Pow2 | None:
        """The format of the scale that travels with each block, if one does."""
        scale = self.format.scale if isinstance(self.format, Block) else None
        return scale if isinstance(scale, Pow2) and self.scale is None else None

    @property
    def beat_scale_bits(self) -> int:
        return 0 if self.dynamic_scale is None else self.dynamic_scale.bits

    @property
    def block_size(self) -> int | None:
        """Values that share a scale; None where there is one for the whole tensor, or none."""
        if not isinstance(self.format, Block) or self.dynamic_scale is None:
            return None
        return self.format.size if isinstance(self.format.size, int) else WHOLE_ROW

    @property
    def factor(self) -> Fraction:
        """The static scale, or what code 0 of the travelling one means; 1 for a scalar format."""
        if self.dynamic_scale is not None:
            return Fraction(2) ** self.dynamic_scale.smallest_exponent
        if not isinstance(self.format, Block) or not isinstance(self.scale, int | float):
            return Fraction(1)
        scale = self.format.scale
        power = float(scale.quantize(torch.tensor(self.scale, dtype=torch.float64)))
        return Fraction(power if isinstance(scale, Pow2) else self.scale)

    def check(self) -> None:
        """HardwareError unless an activation can have this format and static scale."""
        block = self.format
        if not isinstance(block, Block):
            return
        if isinstance(self.scale, tuple) or block.zero_point or block.tensor_scale is not None:
            plain = with_scale(block, "bf16" if block.zero_point else "pow2(4)")
            raise HardwareError(
                f"{self} has a zero point or a second scale, which hardware has not: take one "
                f"scale, static where it is real, as of {plain}"
            )
        if self.scale is None and self.dynamic_scale is None:
            raise HardwareError(
                f"{self} on an activation finds a real scale in the data, which takes a division: "
                "calibrate a static scale (quire.precision.calibrate(graph, data, plan)), or take "
                f"a power of two, such as {with_scale(block, 'pow2(4)')}"
            )
        if self.dynamic_scale is not None and block.size == WHOLE_TENSOR:
            raise HardwareError(
                f"{self} finds one scale in all samples at once: take blocks along the last axis, "
                f"as of {with_scale(replace(block, size=32), str(block.scale))}"
            )
        elements = self.element.values_of(torch.arange(2**self.element.bits)).double()
        if self.scale is not None:
            check_products(self, elements * float(self.factor))

    @property
    def integers(self) -> Integers:
        """All values as integers on one grid; HardwareError where the factor is no power of two."""
        low, high = interval(self.element)
        scale = self.dynamic_scale
        top = 0 if scale is None else scale.emax - scale.smallest_exponent
        odd, exponent = odd_part(self.factor)
        return Integers(
            (low * odd) << top, (high * odd) << top, self.element.quantum_exponent + exponent
        )

    def __str__(self) -> str:
        return str(self.format) if self.scale is None else f"{self.format} scale={self.scale}"


def with_scale(block: Block, scale: str) -> str:
    """A format like another, written out, whose blocks have this scale and nothing besides."""
    plain = replace(block, scale=parse(scale), tensor_scale=None, zero_point=False)
    return plain.long_form()


def check_products(what: object, products: Tensor) -> None:
    """HardwareError unless scale times element (float64) is as fp32 holds it: hardware does not
    round it."""
    finite = products[products.isfinite()]
    if not bool((finite.float().double() == finite).all()):
        raise HardwareError(
            f"{what}: its scale times an element does not fit fp32, which would round it; hardware "
            "multiplies exactly: take scales of fewer bits, bf16, fp8_e4m3 or a power of two"
        )


def odd_part(value: Fraction) -> tuple[int, int]:
    """(odd, exponent) with value = odd * 2^exponent, for a dyadic value > 0."""
    twos = value.denominator.bit_length() - 1
    if value <= 0 or value.denominator != 1 << twos:
        raise HardwareError(f"a scale of {value} is not a positive binary fraction")
    number = value.numerator
    zeros = (number & -number).bit_length() - 1
    return number >> zeros, zeros - twos


@dataclass(frozen=True)
class Stream:
    """A sequence of beats that carry the values of a tensor, row by row.

    name: of its wires. shape: of one sample; the last axis varies fastest, and its rows start a
    new beat each. lanes: values of a beat; the last beat of a row is padded. node: of the graph,
    whose result this is.
    """

    name: str
    shape: tuple[int, ...]
    lanes: int
    values: Integers | Codes
    node: str = ""

    @property
    def row(self) -> int:
        """Values of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Rows of a sample."""
        return prod(self.shape[:-1])

    @property
    def row_beats(self) -> int:
        return -(-self.row // self.lanes)

    @property
    def beats(self) -> int:
        """Beats of a sample."""
        return self.rows * self.row_beats

    @property
    def beat_bits(self) -> int:
        """Bits of a beat: the values in the low bits, the scale of their block above."""
        return self.lanes * self.values.bits + self.values.beat_scale_bits

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat on an AXI4-Stream."""
        return -(-self.beat_bits // 8)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.name}: {self.values} [{shape}], {self.lanes} lanes, {self.beats} beats"
