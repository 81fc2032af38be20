"""The scale rules of blocks: how a scale is found in the data, applied and undone.

Each rule turns blocks of a carrier dtype into element values and back. A rule is a frozen record
of the block's element and scale formats; `Block` owns one and never asks which it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quire.formats.base import Scalar
from quire.formats.carrier import (
    INPUT_RANGES,
    Carrier,
    carrier_of,
    divide,
    divide_moderate,
    fuses,
    join_sign,
    round_to_multiple,
    split_sign,
)
from quire.formats.fixed import Fixed, UFixed
from quire.formats.layout import Blocks
from quire.formats.minifloat import Minifloat
from quire.formats.pow2 import Pow2

_FLOAT32 = Minifloat(8, 23, special="ieee")


@dataclass(frozen=True)
class Scales:
    """The scales of blocks, in the carrier dtype, each dimension of a block kept as 1.

    scale: NaN for a block that holds NaN or Inf. reciprocal: of a power of two.
    empty: True where every element becomes +0; None where no block needs that.
    operand: the scale to compute with, where empty blocks have a number by which their elements
        are +0 already.
    found: the scale was found in the data, so that it is NaN where a block holds NaN or Inf, and
        no value is far beyond the elements' range; a static scale promises neither.
    """

    scale: Tensor
    reciprocal: Tensor | None = None
    empty: Tensor | None = None
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None
    found: bool = False
    operand: Tensor | None = None

    @property
    def factor(self) -> Tensor:
        """What values are divided by, and elements multiplied."""
        return self.scale if self.operand is None else self.operand


class ScaleRule(ABC):
    """How the scales of blocks are found, applied and undone."""

    @abstractmethod
    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        """The scales that the data asks for."""

    @abstractmethod
    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        """Scales from stored numbers (second: the zero point or the tensor scale)."""

    def keeps_range(self, dtype: torch.dtype) -> bool:
        """Whether values whose scale was found in data of a dtype never leave its range."""
        return False

    def tensor_scale(self, x: Tensor) -> Tensor | None:
        """The scale of a whole tensor below which those of its blocks lie, where there is one."""
        return None

    @property
    def largest(self) -> float:
        """The magnitude at which a product of element and scale saturates."""
        return torch.finfo(torch.float32).max

    @abstractmethod
    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        """Values in units of their scale, before rounding."""

    @abstractmethod
    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        """Element values times their scale, rounded to float32 where the scale is a real one.

        They are still to be limited to `largest`.
        """


def _once_a_block(scale: Tensor, blocks: Blocks) -> Tensor:
    """The same tensor, which a compiler is to compute once a block, not once an element.

    Inductor inlines what follows a reduction into every element of the next loop; it stores what
    is viewed by strides. On a GPU the values stay in registers and a store would cost bandwidth,
    but where a block is not a row or a part of one the next loop is a kernel of its own. For a
    power of two a store costs more than the few operations that it saves.
    """
    in_registers = scale.is_cuda and (blocks.split_axis is not None or blocks.is_row)
    return scale if in_registers else _stored(scale)


def _stored(value: Tensor) -> Tensor:
    """The same tensor, not inlined by Inductor into the loops that read it."""
    return value.as_strided(value.shape, value.stride())


def _over(a: Tensor, constant: float) -> Tensor:
    """The IEEE quotient of `a` >= 0 and a positive constant.

    A compiler may replace division by a constant it can see by a product with the reciprocal,
    which is not the same number, so the constant is made to depend on the data; and it may drop a
    rounding between two conversions, so the quotient is handed on by its bits.
    """
    if constant == 1:
        return a
    if a.is_cuda and a.dtype == torch.float32:  # as `divide` does, the reciprocal known before
        quotient = (a.double() * (1.0 / constant)).float()
    else:
        quotient = divide(a, torch.where(a.isnan(), a, constant))
    c = carrier_of(quotient)
    return c.to_float(c.to_bits(quotient) & c.magnitude_bits)


def _real_scales(scale: Tensor, blocks: Blocks, element: Scalar, format: Scalar) -> Scales:
    """Real scales found in the data, of a format, computed once a block.

    What rounds to a scale of 0, divided by the format's largest number, is nothing to an integer of
    at most 16 bits. So one select a block, in whose loop that number is at hand, saves one a value.
    """
    if not isinstance(element, Fixed | UFixed) or element.bits > 16:
        scale = _once_a_block(scale, blocks)
        return Scales(scale, empty=scale == 0, found=True)
    empty = scale == 0
    operand = _once_a_block(torch.where(empty, format.highest, scale), blocks)
    return Scales(scale, empty=empty, operand=operand, found=True)


def _nan_where_infinite(largest: Tensor) -> Tensor:
    """Block maxima with NaN for Inf too: such a block has no finite scale."""
    return torch.where(largest < torch.inf, largest, torch.nan)


@dataclass(frozen=True)
class PowerOfTwo(ScaleRule):
    """X = floor(log2 max|x|) - emax(element), clamped (OCP Microscaling 1.0, section 6.3)."""

    element: Scalar
    scale: Pow2

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        largest = blocks.largest()
        c = carrier_of(largest)
        # The exponent field of the scale, in place; a subnormal maximum has the smallest scale.
        offset = self.element.emax << c.mantissa
        low, high = self.scale.smallest_exponent, min(self.scale.emax, c.bias)
        # Clamped before the offset is taken, which may leave the integers.
        lowest = ((low + c.bias) << c.mantissa) + offset
        highest = ((high + c.bias) << c.mantissa) + offset
        # No finite maximum is above the highest field, and a block without one has no scale.
        highest = None if highest >= c.bits_of(2.0**c.bias) else highest
        field = (c.to_bits(largest) & c.infinity_bits).clamp(lowest, highest) - offset
        scales = self._scales(field, c)
        empty = largest == 0 if self.element.has_signed_zero else None
        nan = torch.where(largest < torch.inf, scales.scale, torch.nan)
        return replace(scales, scale=nan, empty=empty, found=True)

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        c = carrier_of(scale)
        return self._scales(c.to_bits(self.scale.round(scale)) & c.infinity_bits, c)

    def _scales(self, field: Tensor, c: Carrier) -> Scales:
        # 2^-bias is subnormal, with a field of 0, and the reciprocal of 2^bias.
        subnormal, one_squared = 1 << (c.mantissa - 1), 2 * c.bias << c.mantissa
        reciprocal = c.to_float((one_squared - field).clamp(min=subnormal))
        return Scales(c.to_float(field.clamp(min=subnormal)), reciprocal)

    def keeps_range(self, dtype: torch.dtype) -> bool:
        # Only below the smallest scale can a value exceed the next power of two of its maximum.
        return self.element.emax + self.scale.smallest_exponent <= INPUT_RANGES[dtype][1]

    @property
    def largest(self) -> float:
        return torch.inf

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        assert scales.reciprocal is not None
        return values * scales.reciprocal

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return elements * scales.scale


def _product(elements: Tensor, scale: Tensor) -> Tensor:
    """scale * element rounded once to float32, in the dtype of `elements`; it may become Inf."""
    return (elements.float() * scale.float()).to(elements.dtype)


def _quotient(values: Tensor, scale: Tensor, scales: Scales, element: Scalar) -> Tensor:
    """values / scale, an IEEE quotient for every value that does not round to a zero element."""
    if not scales.found or element.quantum_exponent < -64 or element.highest > 2.0**64:
        return divide(values, scale)
    if not element.has_signed_zero or not fuses(values):
        return divide_moderate(values, scale)
    sign, a = split_sign(values)
    return join_sign(sign, divide_moderate(a, scale))


@dataclass(frozen=True)
class Real(ScaleRule):
    """s = RNE(max|x| / max(element)), in the scale's format; element = RNE(x / s)."""

    element: Scalar
    scale: Scalar

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        largest = _nan_where_infinite(blocks.largest())
        ideal = _over(largest, self.element.highest)
        if self.element.block_scale is not None:
            mean = self.element.block_scale(blocks.values, blocks.dims, blocks.counts())
            ideal = torch.where(largest.isnan(), largest, mean.to(largest.dtype))
        return _real_scales(self.scale.round(ideal), blocks, self.element, self.scale)

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        scale = self.scale.round(scale)
        return Scales(scale, empty=scale == 0)

    def keeps_range(self, dtype: torch.dtype) -> bool:
        # The scale is max|x| itself, and no product is larger.
        return self.scale == _FLOAT32 and self.element.highest == 1 and dtype != torch.float64

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return _quotient(values, scales.factor, scales, self.element)

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _product(elements, scales.factor)


@dataclass(frozen=True)
class TwoLevel(ScaleRule):
    """A real scale a block below one float32 scale a tensor (NVFP4)."""

    element: Scalar
    scale: Scalar

    def tensor_scale(self, x: Tensor) -> Tensor:
        c = carrier_of(x)
        bits = c.to_bits(x) & c.magnitude_bits
        # A bad value harms its block only.
        largest = c.to_float(torch.where(bits < c.infinity_bits, bits, 0).amax())
        ideal = _over(largest, self.element.highest * self.scale.highest)
        return _stored(ideal.clamp(max=torch.finfo(torch.float32).max).float().to(x.dtype))

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        assert tensor_scale is not None
        largest = _nan_where_infinite(blocks.largest())
        ideal = divide_moderate(_over(largest, self.element.highest), tensor_scale)
        scale = self.scale.round(torch.where(tensor_scale == 0, largest, ideal))
        return replace(self._scales(_once_a_block(scale, blocks), tensor_scale), found=True)

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        assert second is not None
        return self._scales(self.scale.round(scale), _FLOAT32.round(second))

    def _scales(self, scale: Tensor, tensor: Tensor) -> Scales:
        scales = Scales(scale, tensor_scale=tensor)
        return replace(scales, empty=self._effective(scales) == 0)

    def _effective(self, scales: Scales) -> Tensor:
        assert scales.tensor_scale is not None
        largest = torch.finfo(torch.float32).max
        return _product(scales.scale, scales.tensor_scale).clamp(max=largest)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return _quotient(values, self._effective(scales), scales, self.element)

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _product(elements, self._effective(scales))


@dataclass(frozen=True)
class Affine(ScaleRule):
    """Asymmetric integers: value = s (code - z), the range widened to hold zero."""

    element: Scalar
    scale: Scalar

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        largest = torch.finfo(blocks.values.dtype).max
        below, above = blocks.reach()
        finite = (below < torch.inf) & (above < torch.inf)
        span = torch.where(finite, (below + above).clamp(max=largest), torch.nan)
        scale = self.scale.round(_over(span, self.element.highest))
        scales = _real_scales(scale, blocks, self.element, self.scale)
        zero_point = self.element.round(divide_moderate(below, scales.factor))
        zero_point = _once_a_block(torch.where(scale == 0, 0.0, zero_point), blocks)
        return replace(scales, zero_point=zero_point)

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        assert second is not None
        scale = self.scale.round(scale)
        return Scales(scale, empty=scale == 0, zero_point=self.element.round(second))

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        assert scales.zero_point is not None
        quotient = _quotient(values, scales.factor, scales, self.element)
        return round_to_multiple(quotient, 0) + scales.zero_point

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        assert scales.zero_point is not None
        return _product(elements - scales.zero_point, scales.factor)
