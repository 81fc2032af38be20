"""Bit packing: codes of any width to bytes and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats.base import Encoded, Format, code_dtype
from quire.formats.block import Block


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Pack the last dimension: integer codes of `bits` bits to bytes, lowest bit first.

    codes: shape (..., n). Returns uint8 of shape (..., ceil(n * bits / 8)); rows start on bytes.
    """
    n = codes.shape[-1]
    group = math.lcm(bits, 8) // bits  # codes that fill whole bytes
    padded = torch.nn.functional.pad(codes.long(), (0, -n % group))
    grouped = padded.unflatten(-1, (-1, group))
    positions = torch.arange(group * bits, device=codes.device)
    stream = (grouped[..., positions // bits] >> (positions % bits)) & 1
    weights = 1 << torch.arange(8, device=codes.device)
    packed = (stream.unflatten(-1, (-1, 8)) * weights).sum(-1).to(torch.uint8)
    return packed.flatten(-2)[..., : -(-n * bits // 8)]


def unpack_bits(data: Tensor, bits: int, n: int) -> Tensor:
    """The inverse of `pack_bits`: uint8 of shape (..., bytes) to n codes a row."""
    group = math.lcm(bits, 8) // bits
    size = group * bits // 8
    padded = torch.nn.functional.pad(data.long(), (0, -data.shape[-1] % size))
    grouped = padded.unflatten(-1, (-1, size))
    positions = torch.arange(group * bits, device=data.device)
    stream = (grouped[..., positions // 8] >> (positions % 8)) & 1
    weights = 1 << torch.arange(bits, device=data.device)
    codes = (stream.unflatten(-1, (-1, bits)) * weights).sum(-1)
    return codes.flatten(-2)[..., :n].to(code_dtype(bits))


Field = tuple[str, int, tuple[int, ...]]


def code_fields(fmt: Format, shape: tuple[int, ...], axis: int) -> list[Field]:
    """The integer fields of an encoded tensor in their packed order: (name, bits, shape)."""
    fields: list[Field] = [("codes", fmt.bits, shape)]
    if isinstance(fmt, Block):
        blocks = fmt.scale_shape(shape, axis)
        fields.append(("scales", fmt.scale.bits, blocks))
        if fmt.zero_point:
            fields.append(("zero_points", fmt.element.bits, blocks))
        if fmt.tensor_scale:
            fields.append(("tensor_scale", fmt.tensor_scale.bits, ()))
    return fields


def _stream(codes: Tensor, bits: int) -> Tensor:
    """Codes as single bits, one a byte."""
    return (codes.long().reshape(-1, 1) >> torch.arange(bits, device=codes.device)) & 1


def _as_codes(encoded: Encoded, name: str) -> Tensor:
    value = getattr(encoded, name)
    return value.view(torch.int32) if name == "tensor_scale" else value


def pack(fmt: Format, encoded: Encoded) -> Tensor:
    """The bytes of `Format.pack`."""
    fields = code_fields(fmt, tuple(encoded.codes.shape), encoded.axis)
    bits = [_stream(_as_codes(encoded, name), width).flatten() for name, width, _ in fields]
    return pack_bits(torch.cat(bits), 1)


def unpack(
    fmt: Format, data: Tensor, shape: tuple[int, ...], axis: int, dtype: torch.dtype
) -> Encoded:
    """The record of `Format.unpack`; raises if the length of `data` is not that of the shape."""
    expected = -(-fmt.storage_bits(shape, axis) // 8)
    if data.dtype != torch.uint8 or tuple(data.shape) != (expected,):
        raise FormatError(
            f"{fmt}: a tensor of shape {shape} packs to {expected} bytes (uint8), not"
            f" {tuple(data.shape)} of {data.dtype}"
        )
    axis = axis % max(len(shape), 1) if fmt.is_block else 0
    parts: dict[str, Tensor | None] = dict.fromkeys(["scales", "zero_points", "tensor_scale"])
    fields = code_fields(fmt, shape, axis)
    sizes = [width * torch.Size(field_shape).numel() for _, width, field_shape in fields]
    stream = unpack_bits(data, 1, sum(sizes)).split(sizes)
    for (name, width, field_shape), bits in zip(fields, stream, strict=True):
        weights = 1 << torch.arange(width, device=data.device)
        codes = (bits.reshape(-1, width).long() * weights).sum(-1).reshape(field_shape)
        parts[name] = codes.to(code_dtype(width))
    tensor_scale = parts["tensor_scale"]
    if tensor_scale is not None:
        parts["tensor_scale"] = tensor_scale.to(torch.int32).view(torch.float32)
    return Encoded(axis=axis, dtype=dtype, **parts)  # type: ignore[arg-type]
