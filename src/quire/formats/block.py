"""Blocks: elements of a scalar format that share a scale along an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
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
from quire.formats.carrier import (
    FLOAT32,
    FLOAT64,
    INPUT_RANGES,
    Carrier,
    check_input_dtype,
    saturate,
)
from quire.formats.fixed import Fixed, UFixed
from quire.formats.layout import WHOLE_AXIS, WHOLE_TENSOR, Blocks, split_blocks
from quire.formats.log import Log
from quire.formats.minifloat import Minifloat
from quire.formats.pow2 import Pow2
from quire.formats.registry import check_range, family
from quire.formats.scaling import Affine, PowerOfTwo, Real, ScaleRule, Scales, TwoLevel


@family("block", "block(fixed(4,0),size=128,scale=bf16)")
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

    @property
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
            # Scales of float32 data stay in 2^-127..2^127 and are read from normal exponents, and
            # no element times the smallest scale leaves float32.
            smallest = self.scale.smallest_exponent
            narrow &= self.element.emax >= 0 and -127 <= smallest < 127 - self.element.emax
        return FLOAT32 if narrow and dtype != torch.float64 else FLOAT64

    def rounded(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        fits = scale is None and self.rule.keeps_range(x.dtype)
        values: list[Tensor] = []
        for blocks, scales in self._scaled(x, axis, scale):
            value = self.rule.restored(self._elements(blocks, scales), scales)
            # Converted while still in blocks, so that a compiler keeps everything in one loop.
            value = value.to(x.dtype) if fits else self._saturating_to(value, x.dtype)
            values.append(blocks.joined(value))
        return _concatenated(values, axis, x)

    def saturated(self, x: Tensor, axis: int, scale: StaticScale) -> Tensor:
        clamped: list[Tensor] = []
        for blocks, scales in self._scaled(x, axis, scale):
            unscaled = self.rule.unscaled(blocks.values, scales)
            outside = self.element.overflows(unscaled, lowest=self._lowest)
            if scales.empty is not None:  # a scale of 0
                outside |= scales.empty & (blocks.values != 0)
            clamped.append(blocks.joined(outside & (blocks.values.abs() < blocks.largest())))
        return _concatenated(clamped, axis, x)

    def encode(self, x: Tensor, axis: int = -1, *, scale: StaticScale = None) -> Encoded:
        check_input_dtype(x)
        self.check_dtype(x.dtype)
        axis = normalized_axis(x, axis)
        if x.numel() == 0:
            return self._encoded_empty(x, axis)
        if scale is not None:
            raise_where(x.isnan(), "NaN", self)
        elif self.scale.nan_code is None:
            raise_where(~x.isfinite(), "NaN or Inf", self)
        codes: dict[str, list[Tensor]] = {"codes": [], "scales": [], "zero_points": []}
        tensor_scale = None
        for blocks, scales in self._scaled(x.detach(), axis, scale):
            elements = self._elements(blocks, scales).double().nan_to_num(nan=0.0)
            codes["codes"].append(blocks.joined(_codes(self.element, elements)))
            codes["scales"].append(blocks.stored(_codes(self.scale, scales.scale)))
            if scales.zero_point is not None:
                zeros = _codes(self.element, scales.zero_point)
                codes["zero_points"].append(blocks.stored(zeros))
            tensor_scale = scales.tensor_scale
        return Encoded(
            codes=_concatenated(codes["codes"], axis, x),
            scales=_concatenated(codes["scales"], axis),
            zero_points=_concatenated(codes["zero_points"], axis) if self.zero_point else None,
            tensor_scale=None if tensor_scale is None else tensor_scale.float(),
            axis=axis,
            dtype=x.dtype,
        )

    def decode(self, encoded: Encoded, dtype: torch.dtype | None = None) -> Tensor:
        dtype, axis = dtype or encoded.dtype, encoded.axis
        if encoded.codes.numel() == 0:
            return encoded.codes.to(dtype)
        elements = self.element.values_of(encoded.codes.long())
        parts = split_blocks(elements.reshape(elements.shape or (1,)), axis, self.size)
        values = [
            blocks.joined(self.rule.restored(blocks.values, scales))
            for blocks, scales in zip(
                parts, _dealt(self._decoded_scales(encoded), parts, axis), strict=True
            )
        ]
        return self._saturating_to(_concatenated(values, axis, encoded.codes), dtype)

    def _decoded_scales(self, encoded: Encoded) -> Scales:
        zero, tensor = encoded.zero_points, encoded.tensor_scale
        assert encoded.scales is not None
        return Scales(
            self.scale.values_of(encoded.scales.long()),
            zero_point=None if zero is None else self.element.values_of(zero.long()),
            tensor_scale=None if tensor is None else tensor.double(),
        )

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
        return max(self.element.lowest, -self.element.highest)

    def _saturating_to(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert; a product with a coarse scale may exceed the largest finite value of `dtype`."""
        products, largest = self.rule.largest, torch.finfo(dtype).max
        if products < torch.inf or largest < torch.finfo(value.dtype).max:
            value = saturate(value, min(products, largest))
        return value.to(dtype)

    def _elements(self, blocks: Blocks, scales: Scales) -> Tensor:
        unscaled = self.rule.unscaled(blocks.values, scales)
        rounding = self.element.nearest if scales.found else self.element.round
        elements = rounding(unscaled, lowest=self._lowest)
        if scales.empty is None or scales.operand is not None:
            return elements
        return torch.where(scales.empty, 0.0, elements)

    def _scaled(self, x: Tensor, axis: int, static: StaticScale) -> list[tuple[Blocks, Scales]]:
        """The parts of a tensor in the carrier dtype, each with its scales."""
        x = x.to(self.carrier(x.dtype).dtype)
        parts = split_blocks(x.reshape(x.shape or (1,)), axis, self.size)
        if static is None:
            tensor_scale = self.rule.tensor_scale(x)
            return [(blocks, self.rule.find(blocks, tensor_scale)) for blocks in parts]
        scales = self.rule.static(*self._static_parts(static, x, axis))
        return list(zip(parts, _dealt(scales, parts, axis), strict=True))

    def _static_parts(self, static: StaticScale, x: Tensor, axis: int) -> list[Tensor]:
        """A static scale, and its zero point or tensor scale, in the carrier dtype of `x`."""
        given = static if isinstance(static, tuple) else (static,)
        stored = self.scale_shape(tuple(x.shape), axis)
        shapes = {"scale": stored}
        shapes |= {"zero point": stored} if self.zero_point else {}
        shapes |= {"tensor scale": ()} if self.tensor_scale else {}
        if len(given) != len(shapes):
            raise FormatError(
                f"{self}: a static scale is ({', '.join(shapes)}), not {len(given)} parts"
            )
        parts = [torch.as_tensor(part, dtype=x.dtype, device=x.device) for part in given]
        return [
            self._expanded(name, part, shape)
            for part, (name, shape) in zip(parts, shapes.items(), strict=True)
        ]

    def _expanded(self, name: str, part: Tensor, shape: tuple[int, ...]) -> Tensor:
        try:
            return part.expand(shape)
        except RuntimeError as error:
            raise FormatError(
                f"{self}: a static {name} of shape {tuple(part.shape)} does not broadcast to the"
                f" shape of the scales, {shape}"
            ) from error

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


def _codes(fmt: Scalar, values: Tensor) -> Tensor:
    return fmt.codes_of(values.double()).to(code_dtype(fmt.bits))


def _dealt(stored: Scales, parts: list[Blocks], axis: int) -> list[Scales]:
    """Scales in their stored shape dealt out to the parts of a tensor, broadcasting to blocks."""

    def deal(field: Tensor | None) -> list[Tensor | None]:
        if field is None or field.ndim == 0:
            return [field] * len(parts)
        sizes = [blocks.values.shape[axis] for blocks in parts]
        pieces = field.split(sizes, axis) if len(parts) > 1 else [field]
        return [blocks.expanded(piece) for blocks, piece in zip(parts, pieces, strict=True)]

    columns = zip(*map(deal, (stored.reciprocal, stored.empty, stored.zero_point)), strict=True)
    scales = deal(stored.scale)
    return [
        Scales(scale, *rest, tensor_scale=stored.tensor_scale)
        for scale, rest in zip(scales, columns, strict=True)
        if scale is not None
    ]


def _concatenated(parts: list[Tensor], axis: int, like: Tensor | None = None) -> Tensor:
    """The parts of a tensor as one, in the shape of `like`."""
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    return whole if like is None else whole.reshape(like.shape)


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
        lambda b: isinstance(b.scale, Pow2) or b.element.carrier(torch.float32) == FLOAT32,
        "element {b.element} takes a scale pow2(e): float32, in which values are divided by a"
        " real scale, does not hold it",
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


@family("bfp", "bfp(8,scale_bits=8,size=16)")
def bfp(w: int, scale_bits: int = 8, size: int = 16, bias: int | None = None) -> Block:
    """Block floating point (MSFP): fixed(w, w-2) elements under a power-of-two scale."""
    check_range("bfp", "w", w, 2, 32)
    return Block(Fixed(w, w - 2), size, Pow2(scale_bits, bias))


@family("bm", "bm(e=2,m=1,scale_bits=8,size=16)")
def bm(e: int, m: int, scale_bits: int = 8, size: int = 16, bias: int | None = None) -> Block:
    """Block minifloat (Fox et al., ICLR 2021): minifloat elements under a power-of-two scale."""
    return Block(Minifloat(e, m), size, Pow2(scale_bits, bias))


@family("bl", "bl(4,scale_bits=8,size=16)")
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
