"""Streams: what flows between the stages of a design, beat by beat."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from quire.errors import HardwareError
from quire.formats import Block, Format, Pow2, Scalar
from quire.hardware.elements import interval
from quire.precision.cast import StaticScale


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
        return scale if isinstance(scale, Pow2) else None

    @property
    def beat_scale_bits(self) -> int:
        return 0 if self.dynamic_scale is None else self.dynamic_scale.bits

    @property
    def block_size(self) -> int | None:
        """Values that share a scale; None where there is one for the whole tensor, or none."""
        dynamic = isinstance(self.format, Block) and self.dynamic_scale is not None
        return int(self.format.size) if dynamic else None  # type: ignore[union-attr]

    @property
    def factor(self) -> Fraction:
        """The static scale, or what code 0 of the travelling one means; 1 for a scalar format."""
        if self.dynamic_scale is not None:
            return Fraction(2) ** self.dynamic_scale.smallest_exponent
        return Fraction(1) if self.scale is None else Fraction(float(self.scale))  # type: ignore

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
    def last_lanes(self) -> int:
        """Lanes in use in the last beat of a row."""
        return self.row - (self.row_beats - 1) * self.lanes

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
