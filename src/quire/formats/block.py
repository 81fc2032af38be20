"""Blocks: elements of a scalar format that share a scale along an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.errors import FormatError
from quire.formats.base import (
    Encoded,
    Format,
    Scalar,
    StaticScale,
    code_dtype,
    describe_rows,
    normalized_axis,
    raise_where,
)
from quire.formats.binary import Binary, Ternary
from quire.formats.carrier import FLOAT32, FLOAT64, INPUT_RANGES, Carrier, check_input_dtype
from quire.formats.fixed import Fixed, UFixed
from quire.formats.log import Log
from quire.formats.minifloat import Minifloat
from quire.formats.pow2 import Pow2
from quire.formats.registry import check_range, family
from quire.formats.scaling import Affine, Blocks, PowerOfTwo, Real, ScaleRule, Scales, TwoLevel

WHOLE_AXIS = "all"
WHOLE_TENSOR = "tensor"


@family("block")
@dataclass(frozen=True, repr=False)
class Block(Format):
    """`block(element, size, scale)`: `size` elements along an axis share a scale.

    size: an integer (the last block may be short), "all" (the whole axis: one scale a channel) or
        "tensor" (one scale in all).
    scale: `pow2(e)`, or a real format with NaN (fp32, bf16, fp8_e4m3).
    tensor_scale: fp32 for a second scale over the whole tensor (NVFP4).
    zero_point: asymmetric integers; the element is ufixed(w,0).
    """

    element: Scalar
    size: int | str
    scale: Scalar
    tensor_scale: Scalar | None = None
    zero_point: bool = False

    def __post_init__(self) -> None:
        if self.size not in (WHOLE_AXIS, WHOLE_TENSOR):
            if isinstance(self.size, str):
                raise FormatError(
                    f"block: size={self.size!r} is not an integer, 'all' (the axis) or 'tensor'"
                )
            check_range("block", "size", self.size, 1, 2**31)
        for holds, message in _RULES:
            if not holds(self):
                raise FormatError("block: " + message.format(b=self))

    def long_form(self) -> str:
        size = f'"{self.size}"' if isinstance(self.size, str) else self.size
        tensor = f",tensor_scale={self.tensor_scale}" if self.tensor_scale else ""
        zero = ",zero_point=True" if self.zero_point else ""
        return f"block({self.element},size={size},scale={self.scale}{tensor}{zero})"

    def short_form(self) -> str | None:
        return shorthand(self)

    @property
    def bits(self) -> int:
        return self.element.bits

    @property
    def is_block(self) -> bool:
        return True

    @cached_property
    def rule(self) -> ScaleRule:
        """How this format's scales are found and applied."""
        if isinstance(self.scale, Pow2):
            return PowerOfTwo(self.element, self.scale)
        rule = Affine if self.zero_point else TwoLevel if self.tensor_scale else Real
        return rule(self.element, self.scale)

    @property
    def scale_bits(self) -> int:
        """Stored bits a block besides its elements."""
        return self.scale.bits + (self.element.bits if self.zero_point else 0)

    def scale_shape(self, shape: tuple[int, ...], axis: int = -1) -> tuple[int, ...]:
        """The shape of the scales of a tensor of `shape` with blocks along `axis`."""
        if self.size == WHOLE_TENSOR:
            return ()
        shape = shape or (1,)
        axis %= len(shape)
        size = shape[axis] if self.size == WHOLE_AXIS else int(self.size)
        blocks = -(-shape[axis] // size) if size else 0
        return (*shape[:axis], blocks, *shape[axis + 1 :])

    def storage_bits(self, shape: tuple[int, ...], axis: int = -1) -> int:
        blocks = torch.Size(self.scale_shape(shape, axis)).numel()
        tensor = self.tensor_scale.bits if self.tensor_scale else 0
        return self.element.bits * torch.Size(shape).numel() + self.scale_bits * blocks + tensor

    def check_dtype(self, dtype: torch.dtype) -> None:
        # The scale follows the data, so of the element only the significand has to fit; a value
        # with a real scale is a rounded product anyway.
        if isinstance(self.scale, Pow2) and self.element.precision > INPUT_RANGES[dtype][0]:
            able = [str(d) for d, r in INPUT_RANGES.items() if self.element.precision <= r[0]]
            raise FormatError(
                f"{self} does not fit {str(dtype).removeprefix('torch.')}: its elements have"
                f" {self.element.precision} significant bits; convert the tensor to"
                f" {able[0].removeprefix('torch.')}"
            )

    def carrier(self, dtype: torch.dtype) -> Carrier:
        """Where blocks of an input dtype are rounded."""
        narrow = self.element.carrier(torch.float32) == FLOAT32
        if isinstance(self.scale, Pow2):
            # Scales of float32 data stay in 2^-127..2^127 and are read from normal exponents.
            narrow &= self.element.emax >= 0 and self.scale.smallest_exponent >= -127
        return FLOAT32 if narrow and dtype != torch.float64 else FLOAT64

    def rounded(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        blocks = self._split(x.to(self.carrier(x.dtype).dtype), axis)
        scales = self._scales(blocks, axis, scale)
        value = self.rule.restored(self._elements(blocks, scales), scales)
        return _saturating_to(self._join(value, x, axis), x.dtype)

    def saturated(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        blocks = self._split(x.to(self.carrier(x.dtype).dtype), axis)
        unscaled = self.rule.unscaled(blocks.values, self._scales(blocks, axis, scale))
        unbounded = self.element.round_unbounded(unscaled)
        clamped = (unbounded > self.element.highest) | (unbounded < self._lowest)
        magnitude = blocks.values.abs()
        inside = magnitude < magnitude.amax(blocks.dims, keepdim=True)
        return self._join(clamped & inside, x, axis)

    def encode(self, x: Tensor, axis: int = -1, *, scale: StaticScale = None) -> Encoded:
        check_input_dtype(x)
        self.check_dtype(x.dtype)
        axis = normalized_axis(x, axis)
        if x.numel() == 0:
            return self._encoded_empty(x, axis)
        blocks = self._split(x.detach().to(self.carrier(x.dtype).dtype), axis)
        scales = self._scales(blocks, axis, scale)
        if scale is not None:
            raise_where(x.isnan(), "NaN", self)
        elif self.scale.nan_code is None:
            raise_where(~x.isfinite(), "NaN or Inf", self)
        values = self._join(self._elements(blocks, scales), x, axis).double().nan_to_num(nan=0.0)
        stored = self.scale_shape(tuple(x.shape), axis)
        zero = scales.zero_point
        return Encoded(
            codes=self.element.codes_of(values).to(code_dtype(self.element.bits)),
            scales=_codes(self.scale, scales.scale, stored),
            zero_points=None if zero is None else _codes(self.element, zero, stored),
            tensor_scale=None if scales.tensor_scale is None else scales.tensor_scale.float(),
            axis=axis,
            dtype=x.dtype,
        )

    def decode(self, encoded: Encoded, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or encoded.dtype
        if encoded.codes.numel() == 0:
            return encoded.codes.to(dtype)
        elements = self.element.values_of(encoded.codes.long())
        blocks = self._split(elements, encoded.axis)
        zero, tensor = encoded.zero_points, encoded.tensor_scale
        assert encoded.scales is not None
        scales = Scales(
            self._expand(self.scale.values_of(encoded.scales.long()), encoded.axis),
            zero_point=None if zero is None else self._expand(self._zeros(zero), encoded.axis),
            tensor_scale=None if tensor is None else tensor.double(),
        )
        value = self.rule.restored(blocks.values, scales)
        return _saturating_to(self._join(value, encoded.codes, encoded.axis), dtype)

    def describe(self) -> str:
        rows = {
            "element": f"{self.element} ({self.element.bits} bits)",
            "block": f"{self.size} values",
            "scale": f"{self.scale} ({self.scale.bits} bits)",
            "bits a value": f"{self.bits_per_value(4096):.6g} on an axis of 4096",
            "element range": f"{self._lowest:.8g} to {self.element.highest:.8g}",
            "epsilon": f"2^{1 - self.element.precision}",
            "codes": 2**self.element.bits,
            "written out": self.long_form(),
        }
        return describe_rows(str(self), rows)

    @property
    def _lowest(self) -> float:
        # Symmetric: inside a block the most negative code of fixed point is read, never written.
        return 0.0 if self.zero_point else -self.element.highest

    def _elements(self, blocks: Blocks, scales: Scales) -> Tensor:
        unscaled = self.rule.unscaled(blocks.values, scales)
        elements = self.element.round(unscaled, lowest=self._lowest)
        return elements if scales.empty is None else torch.where(scales.empty, 0.0, elements)

    def _scales(self, blocks: Blocks, axis: int, static: StaticScale) -> Scales:
        if static is None:
            return self.rule.find(blocks)
        parts = static if isinstance(static, tuple) else (static,)
        paired = self.zero_point or self.tensor_scale is not None
        if len(parts) != 1 + paired:
            raise FormatError(
                f"{self}: a static scale is "
                + ("a pair (scale, zero point or tensor scale)" if paired else "one tensor")
                + f", not {len(parts)} parts"
            )
        expanded = tuple(self._expand(torch.as_tensor(p), axis) for p in parts)
        return self.rule.static(expanded if paired else expanded[0], blocks.values)

    def _zeros(self, codes: Tensor) -> Tensor:
        return self.element.values_of(codes.long())

    def _expand(self, scales: Tensor, axis: int) -> Tensor:
        """Stored scales, shaped to broadcast against blocks."""
        split = isinstance(self.size, int) and scales.ndim > axis
        return scales.unsqueeze(axis + 1) if split else scales

    def _split(self, x: Tensor, axis: int) -> Blocks:
        if x.ndim == 0:
            x = x.reshape(1)
        if self.size == WHOLE_TENSOR:
            return Blocks(x, tuple(range(x.ndim)), x.numel())
        if self.size == WHOLE_AXIS:
            return Blocks(x, (axis,), x.shape[axis])
        n, size = x.shape[axis], int(self.size)
        count = n if n < size else size
        pad = -n % count
        if pad:
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, pad])
        blocks = x.unflatten(axis, (-1, count))
        return Blocks(blocks, (axis + 1,), self._counts(blocks, axis, n) if pad else count)

    def _counts(self, blocks: Tensor, axis: int, n: int) -> Tensor:
        """True values in each block, shaped to broadcast: the last block is short."""
        size = blocks.shape[axis + 1]
        first = torch.arange(blocks.shape[axis], device=blocks.device) * size
        trailing = blocks.ndim - axis - 1
        return (n - first).clamp(max=size).reshape(-1, *[1] * trailing)

    def _join(self, blocks: Tensor, like: Tensor, axis: int) -> Tensor:
        if like.ndim == 0:
            return blocks.reshape(())
        if isinstance(self.size, str):
            return blocks
        joined = blocks.flatten(axis, axis + 1)
        n = like.shape[axis]
        return joined if joined.shape[axis] == n else joined.narrow(axis, 0, n)

    def _encoded_empty(self, x: Tensor, axis: int) -> Encoded:
        def zeros(fmt: Scalar) -> Tensor:
            shape = self.scale_shape(tuple(x.shape), axis)
            return torch.zeros(shape, dtype=code_dtype(fmt.bits), device=x.device)

        return Encoded(
            codes=torch.zeros_like(x, dtype=code_dtype(self.element.bits)),
            scales=zeros(self.scale),
            zero_points=zeros(self.element) if self.zero_point else None,
            tensor_scale=torch.zeros((), device=x.device) if self.tensor_scale else None,
            axis=axis,
            dtype=x.dtype,
        )


def _saturating_to(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert; a product with a coarse scale may exceed the largest finite value of `dtype`."""
    largest = torch.finfo(dtype).max
    narrower = largest < torch.finfo(value.dtype).max
    return (value.clamp(-largest, largest) if narrower else value).to(dtype)


def _codes(fmt: Scalar, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return fmt.codes_of(values.double()).to(code_dtype(fmt.bits)).reshape(shape)


# What has to hold for the parts of a block, and what to say where it does not.
_RULES: tuple[tuple[Callable[[Block], bool], str], ...] = (
    (
        lambda b: isinstance(b.element, Scalar) and not isinstance(b.element, Pow2),
        "element {b.element} is not a scalar format of values",
    ),
    (
        lambda b: (
            isinstance(b.scale, Pow2)
            or (isinstance(b.scale, Minifloat) and b.scale.nan_code is not None)
        ),
        "scale {b.scale} is neither pow2(e) nor a float with NaN (fp32, bf16, fp8_e4m3)",
    ),
    (
        lambda b: not (isinstance(b.element, Binary | Ternary) and isinstance(b.scale, Pow2)),
        "element {b.element} takes a real scale (fp32, bf16, fp8_e4m3), not {b.scale}",
    ),
    (
        lambda b: b.tensor_scale in (None, Minifloat(8, 23, special="ieee")),
        "tensor_scale={b.tensor_scale} is not fp32",
    ),
    (
        lambda b: not (b.tensor_scale or b.zero_point) or not isinstance(b.scale, Pow2),
        "tensor_scale and zero_point take a real scale (fp32, bf16, fp8_e4m3), not {b.scale}",
    ),
    (
        lambda b: not (b.tensor_scale and b.zero_point),
        "tensor_scale and zero_point do not go together",
    ),
    (
        lambda b: not b.zero_point or (isinstance(b.element, UFixed) and b.element.f == 0),
        "zero_point=True takes an element ufixed(w,0), not {b.element}",
    ),
)


@family("bfp")
def bfp(w: int, scale_bits: int = 8, size: int = 16, bias: int | None = None) -> Block:
    """Block floating point (MSFP): fixed(w, w-2) elements under a power-of-two scale."""
    check_range("bfp", "w", w, 2, 32)
    return Block(Fixed(w, w - 2), size, Pow2(scale_bits, bias))


@family("bm")
def bm(e: int, m: int, scale_bits: int = 8, size: int = 16, bias: int | None = None) -> Block:
    """Block minifloat (Fox et al., ICLR 2021): minifloat elements under a power-of-two scale."""
    return Block(Minifloat(e, m), size, Pow2(scale_bits, bias))


@family("bl")
def bl(w: int, scale_bits: int = 8, size: int = 16, bias: int | None = None) -> Block:
    """Block logarithm: log elements with bias 0 under a power-of-two scale."""
    return Block(Log(w, bias=0), size, Pow2(scale_bits, bias))


_SHORTHANDS: tuple[tuple[type[Scalar], Callable[..., Block], str], ...] = (
    (Fixed, bfp, "bfp({0.w}"),
    (Minifloat, bm, "bm(e={0.e},m={0.m}"),
    (Log, bl, "bl({0.w}"),
)


def shorthand(block: Block) -> str | None:
    """The `bfp`, `bm` or `bl` call that makes a block, or None for other blocks."""
    element, scale, size = block.element, block.scale, block.size
    if not isinstance(scale, Pow2) or isinstance(size, str):
        return None
    shape = {"scale_bits": scale.e, "size": size, "bias": scale.bias}
    for family_type, make, call in _SHORTHANDS:
        if isinstance(element, family_type):
            first = (element.e, element.m) if isinstance(element, Minifloat) else (element.bits,)
            if make(*first, **shape) == block:
                bias = "" if scale == Pow2(scale.e) else f",bias={scale.bias}"
                return f"{call.format(element)},scale_bits={scale.e},size={size}{bias})"
    return None
