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
from quire.formats.carrier import INPUT_RANGES, Carrier, carrier_of, divide
from quire.formats.layout import Blocks
from quire.formats.minifloat import Minifloat
from quire.formats.pow2 import Pow2

_FLOAT32 = Minifloat(8, 23, special="ieee")


@dataclass(frozen=True)
class Scales:
    """The scales of blocks, in the carrier dtype, each dimension of a block kept as 1.

    scale: NaN for a block that holds NaN or Inf. reciprocal: of a power of two.
    empty: True where every element becomes +0; None where that follows by itself.
    """

    scale: Tensor
    reciprocal: Tensor | None = None
    empty: Tensor | None = None
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None


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

    @abstractmethod
    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        """Values in units of their scale, before rounding."""

    @abstractmethod
    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        """Element values times their scale, rounded to float32 where the scale is a real one."""


def _once_a_block(scale: Tensor) -> Tensor:
    """The same tensor; on a CPU a compiler computes it once a block, not once an element.

    Inductor inlines what follows a reduction into every element of the next loop; it stores what
    is viewed by strides. On a GPU the values stay in registers and a store would cost bandwidth;
    for a power of two it costs more than the few operations that it saves.
    """
    return scale.as_strided(scale.shape, scale.stride()) if scale.device.type == "cpu" else scale


def _over(a: Tensor, constant: float) -> Tensor:
    """The IEEE quotient of `a` >= 0 and a positive constant.

    A compiler may replace division by a constant it can see by a product with the reciprocal,
    which is not the same number, so the constant is made to depend on the data; and it may drop a
    rounding between two conversions, so the quotient is handed on by its bits.
    """
    if a.is_cuda and a.dtype == torch.float32:  # as `divide` does, the reciprocal known before
        quotient = (a.double() * (1.0 / constant)).float()
    else:
        quotient = divide(a, torch.where(a.isnan(), a, constant))
    c = carrier_of(quotient)
    return c.to_float(c.to_bits(quotient) & c.magnitude_bits)


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
        highest = min(((high + c.bias) << c.mantissa) + offset, c.infinity_bits)
        field = (c.to_bits(largest) & c.infinity_bits).clamp(lowest, highest) - offset
        scales = self._scales(field, c)
        empty = largest == 0 if self.element.has_signed_zero else None
        nan = torch.where(largest < torch.inf, scales.scale, torch.nan)
        return replace(scales, scale=nan, empty=empty)

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

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        assert scales.reciprocal is not None
        return values * scales.reciprocal

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return elements * scales.scale


def _saturating_product(elements: Tensor, scale: Tensor) -> Tensor:
    """scale * element rounded once to float32, saturating, in the dtype of `elements`."""
    largest = torch.finfo(torch.float32).max
    value = (elements.float() * scale.float()).clamp(-largest, largest)
    return value.to(elements.dtype)


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
        return self._scales(_once_a_block(self.scale.round(ideal)))

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        return self._scales(self.scale.round(scale))

    def _scales(self, scale: Tensor) -> Scales:
        return Scales(scale, empty=scale == 0)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return divide(values, scales.scale)

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _saturating_product(elements, scales.scale)


@dataclass(frozen=True)
class TwoLevel(ScaleRule):
    """A real scale a block below one float32 scale a tensor (NVFP4)."""

    element: Scalar
    scale: Scalar

    def tensor_scale(self, x: Tensor) -> Tensor:
        a = x.abs()
        largest = torch.where(a < torch.inf, a, 0.0).amax()  # a bad value harms its block only
        ideal = _over(largest, self.element.highest * self.scale.highest)
        return ideal.clamp(max=torch.finfo(torch.float32).max).float().to(x.dtype)

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        assert tensor_scale is not None
        largest = _nan_where_infinite(blocks.largest())
        ideal = divide(_over(largest, self.element.highest), tensor_scale)
        scale = self.scale.round(torch.where(tensor_scale == 0, largest, ideal))
        return self._scales(_once_a_block(scale), tensor_scale)

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        assert second is not None
        return self._scales(self.scale.round(scale), _FLOAT32.round(second))

    def _scales(self, scale: Tensor, tensor: Tensor) -> Scales:
        effective = _saturating_product(scale, tensor)
        return Scales(scale, empty=effective == 0, tensor_scale=tensor)

    def _effective(self, scales: Scales) -> Tensor:
        assert scales.tensor_scale is not None
        return _saturating_product(scales.scale, scales.tensor_scale)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return divide(values, self._effective(scales))

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _saturating_product(elements, self._effective(scales))


@dataclass(frozen=True)
class Affine(ScaleRule):
    """Asymmetric integers: value = s (code - z), the range widened to hold zero."""

    element: Scalar
    scale: Scalar

    def find(self, blocks: Blocks, tensor_scale: Tensor | None) -> Scales:
        largest = torch.finfo(blocks.values.dtype).max
        low = blocks.reduced(blocks.values, torch.amin).clamp(max=0.0)
        high = blocks.reduced(blocks.values, torch.amax).clamp(min=0.0)
        span = torch.where(low.isinf() | high.isinf(), torch.nan, (high - low).clamp(max=largest))
        scale = _once_a_block(self.scale.round(_over(span, self.element.highest)))
        zero_point = self.element.round(divide(-low, scale))
        return self._scales(scale, _once_a_block(torch.where(scale == 0, 0.0, zero_point)))

    def static(self, scale: Tensor, second: Tensor | None = None) -> Scales:
        assert second is not None
        return self._scales(self.scale.round(scale), self.element.round(second))

    def _scales(self, scale: Tensor, zero_point: Tensor) -> Scales:
        return Scales(scale, empty=scale == 0, zero_point=zero_point)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        assert scales.zero_point is not None
        return torch.round(divide(values, scales.scale)) + scales.zero_point

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        assert scales.zero_point is not None
        return _saturating_product(elements - scales.zero_point, scales.scale)
