"""The scale rules of blocks: how a scale is found in the data, applied and undone.

Each rule turns blocks of a carrier dtype into element values and back. A rule is a frozen record
of the block's element and scale formats; `Block` owns one and never asks which it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.formats.base import Scalar, StaticScale
from quire.formats.carrier import carrier_of, divide
from quire.formats.pow2 import Pow2


@dataclass(frozen=True)
class Blocks:
    """A tensor of a carrier dtype seen as blocks.

    values: padded with zeros; dims: the dimensions that one block spans; count: true values a block
    (a number, or a tensor that broadcasts against `values`).
    """

    values: Tensor
    dims: tuple[int, ...]
    count: Tensor | int

    def largest_bits(self) -> Tensor:
        """The bits of max |x| over each block, dimensions kept; at least Inf's for NaN and Inf."""
        c = carrier_of(self.values)
        return (c.to_bits(self.values) & c.magnitude_bits).amax(self.dims, keepdim=True)


@dataclass(frozen=True)
class Scales:
    """The scales of blocks, in the carrier dtype, each dimension of a block kept as 1.

    scale: NaN for a block that holds NaN or Inf. empty: True where the block decodes to +0.
    """

    scale: Tensor
    empty: Tensor | None = None
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None


class ScaleRule(ABC):
    """How the scales of blocks are found, applied and undone."""

    @abstractmethod
    def find(self, blocks: Blocks) -> Scales:
        """The scales that the data asks for."""

    @abstractmethod
    def static(self, given: StaticScale, like: Tensor) -> Scales:
        """Scales from stored numbers that broadcast against the scales of `like`."""

    @abstractmethod
    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        """Values in units of their scale, before rounding."""

    @abstractmethod
    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        """Element values times their scale, rounded to float32 where the scale is a real one."""


def _is_bad(largest_bits: Tensor) -> Tensor:
    """True for blocks that hold NaN or Inf, from the bits of their maxima."""
    infinity = {torch.int32: 0xFF << 23, torch.int64: 0x7FF << 52}[largest_bits.dtype]
    return largest_bits >= infinity


def _as_tensor(given: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(given, device=like.device).to(like.dtype)


def _over(a: Tensor, constant: float) -> Tensor:
    """The IEEE quotient of `a` and a constant.

    A compiler may replace division by a constant it can see by a product with the reciprocal,
    which is not the same number, so the constant is made to depend on the data.
    """
    return divide(a, torch.where(a.isnan(), a, constant))


@dataclass(frozen=True)
class PowerOfTwo(ScaleRule):
    """X = floor(log2 max|x|) - emax(element), clamped (OCP Microscaling 1.0, section 6.3)."""

    element: Scalar
    scale: Pow2

    def find(self, blocks: Blocks) -> Scales:
        c = carrier_of(blocks.values)
        largest = blocks.largest_bits()
        exponent = c.floor_log2_bits(largest) - self.element.emax
        exponent = exponent.clamp(self.scale.smallest_exponent, self.scale.emax)
        empty = largest == 0
        exponent = torch.where(empty, self.scale.smallest_exponent, exponent)
        power = torch.where(_is_bad(largest), torch.nan, c.power_of_two(exponent))
        return Scales(power, empty)

    def static(self, given: StaticScale, like: Tensor) -> Scales:
        assert not isinstance(given, tuple) and given is not None
        return Scales(self.scale.round(_as_tensor(given, like)))

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        # The reciprocal of a power of two is exact, and taken once a block: 2^(2 bias) / 2^X on
        # the exponent field, where 2^-127 (a subnormal) has the reciprocal 2^127.
        c = carrier_of(values)
        exponent = c.floor_log2_bits(c.to_bits(scales.scale))
        return values * c.power_of_two(-exponent)

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return elements * scales.scale


def _saturating_product(elements: Tensor, scale: Tensor) -> Tensor:
    """scale * element rounded once to float32, saturating, in the dtype of `elements`."""
    largest = torch.finfo(torch.float32).max
    value = (elements.float() * scale.float()).clamp(-largest, largest)
    return value.to(elements.dtype)


def _largest_finite(largest_bits: Tensor, dtype: torch.dtype) -> Tensor:
    """max |x| as a float, NaN for bad blocks."""
    return torch.where(_is_bad(largest_bits), torch.nan, largest_bits.view(dtype))


@dataclass(frozen=True)
class Real(ScaleRule):
    """s = RNE(max|x| / max(element)), in the scale's format; element = RNE(x / s)."""

    element: Scalar
    scale: Scalar

    def find(self, blocks: Blocks) -> Scales:
        dtype = blocks.values.dtype
        largest = _largest_finite(blocks.largest_bits(), dtype)
        ideal = _over(largest, self.element.highest)
        if self.element.block_scale is not None:
            mean = self.element.block_scale(blocks.values, blocks.dims, blocks.count).to(dtype)
            ideal = torch.where(largest.isnan(), largest, mean)
        return self._scales(self.scale.round(ideal))

    def static(self, given: StaticScale, like: Tensor) -> Scales:
        assert not isinstance(given, tuple) and given is not None
        return self._scales(self.scale.round(_as_tensor(given, like)))

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

    def find(self, blocks: Blocks) -> Scales:
        dtype = blocks.values.dtype
        bits = blocks.largest_bits()
        largest = _largest_finite(bits, dtype)
        finite = torch.where(_is_bad(bits), 0.0, largest)
        tensor = _over(finite.amax(), self.element.highest * self.scale.highest).float().to(dtype)
        ideal = divide(_over(largest, self.element.highest), tensor)
        scale = self.scale.round(torch.where(tensor == 0, largest, ideal))
        return self._scales(scale, tensor)

    def static(self, given: StaticScale, like: Tensor) -> Scales:
        assert isinstance(given, tuple)
        scale, tensor = (_as_tensor(part, like) for part in given)
        return self._scales(self.scale.round(scale), tensor.float().to(like.dtype))

    def _scales(self, scale: Tensor, tensor: Tensor) -> Scales:
        effective = (scale.float() * tensor.float()).to(scale.dtype)
        return Scales(scale, effective == 0, tensor_scale=tensor)

    def _effective(self, scales: Scales) -> Tensor:
        assert scales.tensor_scale is not None
        return (scales.scale.float() * scales.tensor_scale.float()).to(scales.scale.dtype)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return divide(values, self._effective(scales))

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _saturating_product(elements, self._effective(scales))


@dataclass(frozen=True)
class Affine(ScaleRule):
    """Asymmetric integers: value = s (code - z), the range widened to hold zero."""

    element: Scalar
    scale: Scalar

    def find(self, blocks: Blocks) -> Scales:
        x, dims = blocks.values, blocks.dims
        largest = torch.finfo(x.dtype).max
        low = x.amin(dims, keepdim=True).clamp(max=0.0)
        high = x.amax(dims, keepdim=True).clamp(min=0.0)
        span = torch.where(low.isinf() | high.isinf(), torch.nan, (high - low).clamp(max=largest))
        scale = self.scale.round(_over(span, self.element.highest))
        zero_point = self.element.round(divide(-low, scale))
        return self._scales(scale, torch.where(scale == 0, 0.0, zero_point))

    def static(self, given: StaticScale, like: Tensor) -> Scales:
        assert isinstance(given, tuple)
        scale, zero_point = (_as_tensor(part, like) for part in given)
        return self._scales(self.scale.round(scale), self.element.round(zero_point))

    def _scales(self, scale: Tensor, zero_point: Tensor) -> Scales:
        return Scales(scale, scale == 0, zero_point)

    def unscaled(self, values: Tensor, scales: Scales) -> Tensor:
        return torch.round(divide(values, scales.scale)) + scales.zero_point

    def restored(self, elements: Tensor, scales: Scales) -> Tensor:
        return _saturating_product(elements - scales.zero_point, scales.scale)
