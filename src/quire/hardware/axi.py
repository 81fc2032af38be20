"""Tensors as the beats of an AXI4-Stream, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quire.errors import FormatError, HardwareError
from quire.formats import Block, Encoded
from quire.hardware.stream import Codes, Integers, Stream
from quire.hardware.wide import LIMB, from_limbs
from quire.ops.exact_value import Exact

Beats = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint8]


def encode(stream: Stream, x: Tensor) -> Beats:
    """The beats of a batch, uint8 (samples, beats, bytes).

    x: float, (samples, *shape), rounded here into the format of the stream; (samples,) for rows
    of one number. Raises HardwareError for what is no tensor, for another shape and for no samples,
    and FormatError for another dtype, for NaN, and for Inf where the format has none.
    """
    values = stream.values
    assert isinstance(values, Codes)
    _check(stream, x)
    try:
        rows = x.detach().cpu().reshape(len(x), *stream.shape)
        encoded = values.format.encode(rows, -1, scale=values.scale)
    except FormatError as error:
        raise FormatError(f"input {stream.name}: {error}") from None
    codes = _rows(encoded.codes.numpy(), stream, stream.row)
    lanes = _padded(codes, stream.row_beats * stream.lanes)
    fields = _bits(lanes, values.bits).reshape(len(codes), stream.row_beats, -1)
    if values.dynamic_scale is not None:
        assert encoded.scales is not None
        blocks = encoded.scales.shape[-1]
        scales = _rows(encoded.scales.numpy(), stream, blocks)
        fields = np.concatenate(
            [fields, _bits(_per_beat(scales, stream), values.beat_scale_bits)], 2
        )
    return _bytes(fields, stream, len(x))


def _check(stream: Stream, x: object) -> None:
    wanted = ", ".join(map(str, ("samples", *stream.shape)))
    if not isinstance(x, Tensor):
        kind = type(x).__name__
        raise HardwareError(f"input {stream.name} is a {kind}: give a float tensor ({wanted})")
    shapes = [stream.shape, ()] if stream.shape == (1,) else [stream.shape]
    if x.ndim == 0 or tuple(x.shape[1:]) not in shapes:
        raise HardwareError(f"input {stream.name} has the shape {tuple(x.shape)}: give ({wanted})")
    if len(x) == 0:
        raise HardwareError(f"input {stream.name} has no samples: give 1 or more")


def decode(stream: Stream, beats: Beats) -> Tensor:
    """The values of beats, float32 (samples, *shape): exact sums rounded once to the nearest."""
    values, samples = stream.values, len(beats)
    fields = np.unpackbits(beats, axis=-1, bitorder="little")[..., : stream.beat_bits]
    rows = fields.reshape(samples * stream.rows, stream.row_beats, stream.beat_bits)
    lanes = rows[..., : stream.lanes * values.bits]
    words = lanes.reshape(len(rows), -1, values.bits)[:, : stream.row]
    shape = (samples, *stream.shape)
    if isinstance(values, Integers):
        return _exact(words, values).to_float32().reshape(shape)
    codes = torch.from_numpy(_numbers(words)).reshape(shape)
    scales = None
    if values.dynamic_scale is not None:
        first = np.arange(0, stream.row, values.block_size or 1) // stream.lanes
        found = _numbers(rows[:, first, stream.lanes * values.bits :])
        scales = torch.from_numpy(found).reshape(*shape[:-1], -1)
    encoded = Encoded(codes, scales, None, None, len(shape) - 1, torch.float32)
    if isinstance(values.format, Block) and values.dynamic_scale is None:
        return _with_static_scale(values, codes)
    return values.format.decode(encoded, torch.float32)


def from_bytes(stream: Stream, data: bytes) -> Beats:
    """Bytes as uint8 (samples, beats, bytes); HardwareError for a part of a sample, or nothing."""
    sample = stream.beats * stream.beat_bytes
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(data).__name__
        raise HardwareError(f"output {stream.name} is a {kind}: give its bytes, {sample} a sample")
    if not data or len(data) % sample:
        raise HardwareError(
            f"{len(data)} bytes of {stream.name} are no whole samples of {sample} bytes"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, stream.beats, stream.beat_bytes)


def _with_static_scale(values: Codes, codes: Tensor) -> Tensor:
    elements = values.element.values_of(codes)
    return (elements.float() * float(values.factor)).float()


def _rows(values: npt.NDArray[np.generic], stream: Stream, row: int) -> npt.NDArray[np.int64]:
    return values.astype(np.int64).reshape(-1, row)


def _padded(rows: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def _per_beat(scales: npt.NDArray[np.int64], stream: Stream) -> npt.NDArray[np.int64]:
    """The scale of the block of each beat, (rows, beats, 1)."""
    assert isinstance(stream.values, Codes)
    size = stream.values.block_size or 1
    block = np.arange(stream.row_beats) * stream.lanes // size
    return scales[:, block, None]


def _bits(values: npt.NDArray[np.int64], bits: int) -> Bits:
    """Integers as bits, low bits first, along a last axis that is merged into the one before."""
    spread = (values[..., None] >> np.arange(bits)) & 1
    return spread.astype(np.uint8).reshape(*values.shape[:-1], values.shape[-1] * bits)


def _bytes(fields: Bits, stream: Stream, samples: int) -> Beats:
    packed = np.packbits(fields, axis=-1, bitorder="little")
    return packed.reshape(samples, stream.beats, stream.beat_bytes)


def _numbers(words: Bits) -> npt.NDArray[np.int64]:
    """Unsigned integers of at most 62 bits from bits along the last axis."""
    weights = np.left_shift(np.int64(1), np.arange(words.shape[-1], dtype=np.int64))
    return (words.astype(np.int64) * weights).sum(-1)


def _exact(words: Bits, values: Integers) -> Exact:
    """Two's complement integers as exact values."""
    lows = range(0, values.bits, LIMB)
    limbs = [_numbers(words[..., low : low + LIMB]) for low in lows]
    limbs[-1] -= words[..., -1].astype(np.int64) << (values.bits - lows[-1])
    return from_limbs([torch.from_numpy(limb) for limb in limbs], values.exponent)
