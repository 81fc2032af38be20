"""What a number format is: the `Format` and `Scalar` classes and the record of encoded tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats.carrier import (
    FLOAT32,
    FLOAT64,
    INPUT_RANGES,
    Carrier,
    at_most,
    check_input_dtype,
    join_sign,
    split_sign,
)

StaticScale: TypeAlias = "Tensor | float | tuple[Tensor | float, Tensor | float] | None"


@dataclass(frozen=True)
class Encoded:
    """A tensor in codes.

    codes: integers in the tensor's own shape, each the bit pattern of one element.
    scales: codes of the scales (bit patterns of the scale's format); the tensor's shape with the
        axis shortened to the number of blocks; 0-d for one scale a tensor; None for scalars.
    zero_points: codes of the zero points in the shape of `scales`, or None.
    tensor_scale: a 0-d float32 tensor (nvfp4), or None.
    axis: the non-negative axis along which the blocks run.
    dtype: the input's dtype, which `decode` returns by default.
    """

    codes: Tensor
    scales: Tensor | None
    zero_points: Tensor | None
    tensor_scale: Tensor | None
    axis: int
    dtype: torch.dtype


def code_dtype(bits: int) -> torch.dtype:
    """The smallest integer dtype used for codes of that many bits."""
    return torch.uint8 if bits <= 8 else torch.int32 if bits <= 31 else torch.int64


class Format(ABC):
    """How reals are represented. Frozen, hashable, printable; `parse(str(f)) == f`."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """Stored bits of one element's code, scales not counted."""

    @property
    @abstractmethod
    def is_block(self) -> bool:
        """Whether elements share scales along an axis."""

    @abstractmethod
    def long_form(self) -> str:
        """The format written out as a constructor call."""

    def short_form(self) -> str | None:
        """A shorter call that makes this format, where its family has one."""
        return None

    @abstractmethod
    def storage_bits(self, shape: tuple[int, ...], axis: int = -1) -> int:
        """Bits that a tensor of `shape` takes when its blocks run along `axis`, without padding."""

    @abstractmethod
    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raise `FormatError` if values of this format do not fit `dtype`, naming one that does."""

    @abstractmethod
    def rounded(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        """`quantize` without its checks and without a gradient."""

    @abstractmethod
    def saturated(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        """True where the straight-through gradient is zero: the clamp changed the rounded value
        and |x| is not the maximum of its block."""

    @abstractmethod
    def encode(self, x: Tensor, axis: int = -1, *, scale: StaticScale = None) -> Encoded:
        """The codes of `quantize(x, axis)`; raises where NaN has no code."""

    @abstractmethod
    def decode(self, encoded: Encoded, dtype: torch.dtype | None = None) -> Tensor:
        """The values of codes, in `dtype` (default: the input's dtype at `encode`)."""

    @abstractmethod
    def describe(self) -> str:
        """Range, epsilon and codes, as text for a person."""

    def quantize(
        self,
        x: Tensor,
        axis: int = -1,
        *,
        scale: StaticScale = None,
        mask_saturated: bool = True,
    ) -> Tensor:
        """Round every element to the nearest value of this format (ties to even, saturating).

        x: float32, float64, bfloat16 or float16, any shape and strides.
        axis: the axis along which blocks run; scalar formats ignore it.
        scale: a static scale in place of the one found in the data (blocks only).
        mask_saturated: the straight-through gradient is zero where a value saturated.
        Returns a tensor of x's shape and dtype. Raises `FormatError` for a dtype that cannot hold
        the format's values. The rules: docs/numerics.md.
        """
        from quire.formats.gradient import straight_through

        check_input_dtype(x)
        self.check_dtype(x.dtype)
        if x.numel() == 0:
            return x.clone()
        axis = normalized_axis(x, axis) if self.is_block else 0
        if x.requires_grad and torch.is_grad_enabled():
            return straight_through(self, x, axis, scale, mask_saturated)
        return self.rounded(x, axis, scale)

    def pack(self, encoded: Encoded) -> Tensor:
        """All codes, then scales, zero points and the tensor scale, as one uint8 stream.

        Its length is ceil(storage_bits / 8). Elements are in row-major order of the tensor, each
        code with its lowest bit first.
        """
        from quire.formats.packing import pack

        return pack(self, encoded)

    def unpack(
        self,
        data: Tensor,
        shape: tuple[int, ...],
        axis: int = -1,
        dtype: torch.dtype = torch.float32,
    ) -> Encoded:
        """The inverse of `pack`; `shape`, `axis` and `dtype` are those of the tensor."""
        from quire.formats.packing import unpack

        return unpack(self, data, shape, axis, dtype)

    def bits_per_value(self, n: int) -> float:
        """Stored bits a value for an axis of `n` values, its scales counted.

        A scale of the whole tensor is counted as if the tensor were this one axis.
        """
        if n < 1:
            raise FormatError(f"{self}: an axis of {n} values has no bits a value; n is at least 1")
        return self.storage_bits((n,), 0) / n

    def __str__(self) -> str:
        from quire.formats.presets import preset_name

        return preset_name(self) or self.short_form() or self.long_form()

    def __repr__(self) -> str:
        return str(self)


class Scalar(Format):
    """A format in which every value stands alone: a finite set of reals with codes."""

    # How a block's real scale is found, where it is not max|x| / max(element); set by `binary`.
    block_scale: ClassVar[staticmethod[[Tensor, tuple[int, ...], Tensor | int], Tensor] | None] = (
        None
    )
    has_infinity: ClassVar[bool] = False
    has_signed_zero: ClassVar[bool] = False  # sign and magnitude
    guard_bits: ClassVar[int] = 0  # bits that `grid` needs above the significand

    @property
    @abstractmethod
    def highest(self) -> float:
        """The largest finite value."""

    @property
    @abstractmethod
    def lowest(self) -> float:
        """The smallest finite value."""

    @property
    @abstractmethod
    def emax(self) -> int:
        """floor(log2) of the largest magnitude that a block element reaches."""

    @property
    @abstractmethod
    def precision(self) -> int:
        """Significand bits that hold every value."""

    @property
    @abstractmethod
    def quantum_exponent(self) -> int:
        """Every value is a multiple of 2 to this power."""

    @property
    @abstractmethod
    def nan_code(self) -> int | None:
        """The code of NaN, or None where every code is a number."""

    @abstractmethod
    def grid(self, y: Tensor) -> Tensor:
        """Round to the grid, continued up to twice the range; NaN stays NaN.

        y: of a carrier dtype; magnitudes where the format has a signed zero.
        """

    @abstractmethod
    def codes_of(self, values: Tensor) -> Tensor:
        """The codes (int64) of float64 `values` that this format represents."""

    @abstractmethod
    def values_of(self, codes: Tensor) -> Tensor:
        """The float64 values of int64 `codes`."""

    @property
    def is_block(self) -> bool:
        return False

    def storage_bits(self, shape: tuple[int, ...], axis: int = -1) -> int:
        return self.bits * torch.Size(shape).numel()

    def check_dtype(self, dtype: torch.dtype) -> None:
        if not self._fits(dtype):
            able = [str(d).removeprefix("torch.") for d in INPUT_RANGES if self._fits(d)]
            name = str(dtype).removeprefix("torch.")
            raise FormatError(
                f"{self} does not fit {name}: it needs {self.precision} significant bits and"
                f" magnitudes from 2^{self.quantum_exponent} to"
                f" {max(self.highest, -self.lowest):.6g}; convert the tensor to {able[0]}"
            )

    def _fits(self, dtype: torch.dtype) -> bool:
        precision, largest_exponent, quantum = INPUT_RANGES[dtype]
        return (
            self.precision <= precision
            and floor_log2(max(self.highest, -self.lowest)) <= largest_exponent
            and self.quantum_exponent >= quantum
        )

    def carrier(self, dtype: torch.dtype) -> Carrier:
        """Where values of an input dtype are rounded: float32 where every constant fits there."""
        fits = self._fits(torch.float32) and self.quantum_exponent <= 127 - FLOAT32.mantissa
        fits &= self.precision + self.guard_bits <= FLOAT32.mantissa + 1
        # Below float32's normal numbers an exponent cannot be read from the bits.
        fits &= self.quantum_exponent + self.precision - 1 >= 1 - FLOAT32.bias
        return FLOAT32 if fits and dtype != torch.float64 else FLOAT64

    def round(self, y: Tensor, lowest: float | None = None) -> Tensor:
        """Round and saturate finite values of a carrier dtype; NaN stays NaN."""
        if self.has_signed_zero:
            sign, a = split_sign(y)
            return join_sign(sign, self.grid(a.clamp(max=self.highest)))
        return self.grid(y.clamp(self.lowest if lowest is None else lowest, self.highest))

    def nearest(self, y: Tensor, lowest: float | None = None) -> Tensor:
        """As `round`, but NaN may become any value: blocks know by their scale where it was."""
        if self.has_signed_zero:
            sign, a = split_sign(y)
            return join_sign(sign, self.grid(at_most(a, self.highest)))
        return self.round(y, lowest)

    def overflows(self, y: Tensor, lowest: float | None = None) -> Tensor:
        """True where rounding leaves the range, that is, where `round` has to clamp."""
        if self.has_signed_zero:
            return self.grid(y.abs().clamp(max=2 * self.highest)) > self.highest
        low = self.lowest if lowest is None else lowest
        reach = 2 * max(self.highest, -self.lowest)
        unbounded = self.grid(y.clamp(-reach, reach))
        return (unbounded > self.highest) | (unbounded < low)

    def rounded(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        if scale is not None:
            raise FormatError(f"{self} has no scale: a static scale goes with a block format")
        y = x.to(self.carrier(x.dtype).dtype)
        value = self.round(y)
        if self.has_infinity:
            value = torch.where(y.isinf(), y, value)
        return value.to(x.dtype)

    def saturated(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        return self.overflows(x.to(self.carrier(x.dtype).dtype))

    def encode(self, x: Tensor, axis: int = -1, *, scale: StaticScale = None) -> Encoded:
        value = self.quantize(x.detach(), axis, scale=scale)
        if self.nan_code is None:
            raise_where(value.isnan(), "NaN", self)
        codes = self.codes_of(value.double()).to(code_dtype(self.bits))
        return Encoded(codes, None, None, None, 0, x.dtype)

    def decode(self, encoded: Encoded, dtype: torch.dtype | None = None) -> Tensor:
        return self.values_of(encoded.codes.long()).to(dtype or encoded.dtype)

    def values(self) -> Tensor:
        """All distinct finite values in ascending order, float64 (formats of at most 16 bits)."""
        if self.bits > 16:
            raise FormatError(f"{self} has 2^{self.bits} codes: values() lists at most 2^16")
        values = self.values_of(torch.arange(2**self.bits))
        return torch.unique(values[values.isfinite()])

    def describe(self) -> str:
        rows = {
            "bits": self.bits,
            "range": f"{self.lowest:.8g} to {self.highest:.8g}",
            "smallest step": f"2^{self.quantum_exponent} = {2.0**self.quantum_exponent:.8g}",
            "epsilon": f"2^{1 - self.precision}",
            "codes": 2**self.bits,
            "written out": self.long_form(),
        }
        return describe_rows(str(self), rows)


def floor_log2(value: float) -> int:
    """floor(log2 |value|) of a finite non-zero float, exactly."""
    return math.frexp(value)[1] - 1


def describe_rows(title: str, rows: dict[str, Any]) -> str:
    """A title line and aligned `name  value` lines."""
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows.items())])


def normalized_axis(x: Tensor, axis: int) -> int:
    """A non-negative axis of `x`; a 0-d tensor counts as one of one element."""
    ndim = max(x.ndim, 1)
    if not -ndim <= axis < ndim:
        raise FormatError(
            f"axis {axis} does not exist in a tensor of shape {tuple(x.shape)}: "
            f"give one from {-ndim} to {ndim - 1}"
        )
    return axis % ndim


def raise_where(bad: Tensor, what: str, fmt: Format) -> None:
    """Raise an error that names the first position where `bad` is true."""
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        raise FormatError(
            f"{fmt} has no code for {what}, found first at position {where}: replace it"
            " (torch.nan_to_num), or choose a format with NaN such as fp8_e5m2 or mxfp8_e5m2"
        )
