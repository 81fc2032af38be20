"""The bytes of the AXI4-Stream ports: to codes and back, and to real numbers and back.

Needs NumPy only. `manifest.json` has the layout of each port, `tb/formats` the tables of its
format, so that nothing here knows a number format.

    from tb.codec import Port
    x, y = Port.read("s_axis_x"), Port.read("m_axis_y")
    data = x.encode(samples)  # float32 (samples, *shape) to bytes
    results = y.decode(received)  # bytes to float32 (samples, *shape)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FOLDER = Path(__file__).resolve().parent.parent
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Port:
    """One port of the top: how its beats are made of lanes, and what a lane means.

    name: the prefix of its wires. shape: of one sample. lanes: values of a beat; the last beat of
    a row (the last axis of the shape) is padded. beat_bytes: of `tdata`. layout: its entry in the
    manifest. folder: the emitted one, where the tables are.
    """

    name: str
    shape: tuple[int, ...]
    lanes: int
    beat_bytes: int
    layout: dict[str, Any]
    folder: Path

    @classmethod
    def read(cls, name: str, folder: Path = FOLDER) -> Port:
        """A port by the prefix of its wires, such as `s_axis_x`."""
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        ports = {port["port"]: port for port in (*manifest["inputs"], *manifest["outputs"])}
        if name not in ports:
            raise KeyError(f"no port {name!r}: there are {', '.join(ports)}")
        return cls.of(ports[name], folder)

    @classmethod
    def of(cls, entry: dict[str, Any], folder: Path = FOLDER) -> Port:
        """A port from its entry in the manifest."""
        shape = tuple(entry["shape"])
        return cls(entry["port"], shape, entry["lanes"], entry["bytes"], entry["layout"], folder)

    @property
    def row(self) -> int:
        """Values of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def row_beats(self) -> int:
        """Beats of a row."""
        return -(-self.row // self.lanes)

    @property
    def rows(self) -> int:
        """Rows of a sample."""
        return int(np.prod(self.shape[:-1], dtype=np.int64))

    @property
    def beats(self) -> int:
        """Beats of a sample."""
        return self.rows * self.row_beats

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of the scales of one sample; () where none travels with the values."""
        size = self.layout["block"]
        return (*self.shape[:-1], -(-self.row // size)) if size else ()

    @property
    def mask(self) -> NDArray[np.uint8]:
        """uint8 (beats, bytes): ones at the bits that carry values; the others are padding."""
        ones = np.full((1, *self.shape), -1)
        scales = np.full((1, *self.scale_shape), -1) if self.layout["block"] else None
        return self.beats_of(self.pack(ones, scales))[0]

    def beats_of(self, data: bytes) -> NDArray[np.uint8]:
        """Bytes as uint8 (samples, beats, bytes); ValueError for a part of a sample."""
        sample = self.beats * self.beat_bytes
        if len(data) % sample:
            raise ValueError(f"{self.name}: {len(data)} bytes are no whole samples of {sample}")
        return np.frombuffer(data, np.uint8).reshape(-1, self.beats, self.beat_bytes)

    def pack(self, codes: Array, scales: Array | None = None) -> bytes:
        """The bytes of codes, integers (samples, *shape), and of the scales of their blocks."""
        bits = self.layout["value_bits"]
        rows = codes.reshape(-1, self.row)
        lanes = np.pad(rows, ((0, 0), (0, self.row_beats * self.lanes - self.row)))
        fields = _bits(lanes, bits).reshape(len(rows), self.row_beats, -1)
        if self.layout["block"]:
            if scales is None:
                raise ValueError(f"{self.name}: give the scales of the blocks too")
            block = np.arange(self.row_beats) * self.lanes // self.layout["block"]
            beat_scales = scales.reshape(len(rows), -1)[:, block]
            fields = np.concatenate([fields, _bits(beat_scales, self.layout["scale_bits"])], -1)
        packed = np.packbits(fields, axis=-1, bitorder="little")
        return packed.reshape(-1, self.beat_bytes).tobytes()

    def unpack(self, data: bytes) -> tuple[Array, Array | None]:
        """Codes, integers (samples, *shape), and the codes of the scales or None."""
        beats = self.beats_of(data)
        bits, scale_bits = self.layout["value_bits"], self.layout["scale_bits"]
        fields = np.unpackbits(beats, axis=-1, bitorder="little")
        rows = fields.reshape(-1, self.row_beats, 8 * self.beat_bytes)
        lanes = rows[..., : self.lanes * bits].reshape(len(rows), -1, bits)[:, : self.row]
        codes = _integers(lanes, self.layout["signed"]).reshape(len(beats), *self.shape)
        if not self.layout["block"]:
            return codes, None
        first = np.arange(0, self.row, self.layout["block"]) // self.lanes
        above = rows[:, first, self.lanes * bits : self.lanes * bits + scale_bits]
        return codes, _integers(above, False).reshape(len(beats), *self.scale_shape)

    def encode(self, x: Array) -> bytes:
        """Finite numbers, float32 (samples, *shape), rounded into the format of the port."""
        if x.dtype != np.float32 or x.shape[1:] != self.shape:
            wanted = ("samples", *self.shape)
            raise ValueError(f"{self.name}: {x.dtype} {x.shape} is not float32 {wanted}")
        if not np.isfinite(x).all():
            raise ValueError(f"{self.name}: NaN or Inf has no code: replace it")
        if not self.layout["block"]:
            with np.errstate(over="ignore"):  # what overflows saturates
                x = x / np.float32(self.layout["factor"])  # a real scale divides in float32
            return self.pack(self._rounded(x.astype(np.float64)))
        return self.pack(*self._encode_blocks(x.astype(np.float64)))

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """The numbers of bytes, float32 (samples, *shape), each rounded once to the nearest."""
        codes, scales = self.unpack(data)
        if self.layout["signed"]:
            return _nearest_float32(codes, self.layout["exponent"])
        elements = self._table("values")[codes]
        if scales is not None:
            powers = np.ldexp(1.0, scales + self.layout["scale_exponent"])
            powers = np.where(scales == self.layout["scale_nan"], np.nan, powers)
            spread = np.repeat(powers, self.layout["block"], -1)[..., : self.row]
            return np.clip(elements * spread, -LARGEST, LARGEST).astype(np.float32)
        factor = np.float32(self.layout["factor"])
        return elements.astype(np.float32) * factor

    def _encode_blocks(self, x: Array) -> tuple[Array, Array]:
        """The scale of a block is the power of two that puts its largest value at the top."""
        size, blocks = self.layout["block"], self.scale_shape[-1]
        padding = [(0, 0)] * (x.ndim - 1) + [(0, blocks * size - self.row)]
        parts = np.pad(x, padding).reshape(*x.shape[:-1], blocks, size)
        largest = np.abs(parts).max(-1)
        low, high = self.layout["scale_exponent"], self.layout["scale_highest"]
        exponent = np.frexp(largest)[1] - 1 - self.layout["element_emax"]
        exponent = np.where(largest > 0, np.clip(exponent, low, high), low)
        codes = self._rounded(np.ldexp(parts, -exponent[..., None]))
        codes = np.where(largest[..., None] > 0, codes, self.layout["zero"])
        return codes.reshape(*x.shape[:-1], -1)[..., : self.row], exponent - low

    def _rounded(self, x: Array) -> Array:
        """Codes of float64 values: the last step of the table that a value has reached."""
        steps = self._table("steps")
        return steps["code"][np.searchsorted(steps["from"], _ordered(x), side="right") - 1]

    def _table(self, kind: str) -> Array:
        file = self.layout[kind]
        if file is None:
            raise ValueError(
                f"{self.name}: its format has no table of {kind} here (an output, or more than 16 "
                "bits a value): use pack and unpack with your own codes"
            )
        return np.load(self.folder / file)


def _ordered(x: Array) -> NDArray[np.int64]:
    """Integers in the order of float64 values, -0 below +0."""
    bits = x.view(np.int64)
    return np.where(bits < 0, bits ^ np.iinfo(np.int64).max, bits)


def _bits(values: Array, bits: int) -> NDArray[np.uint8]:
    """Two's complement bits, lowest first, along a last axis that is new."""
    columns = [((values >> k) & 1).astype(np.uint8) for k in range(bits)]
    spread = np.stack(columns, -1)
    return spread if values.ndim < 2 else spread.reshape(*values.shape, bits)


def _integers(bits: NDArray[np.uint8], signed: bool) -> Array:
    """Integers from bits along the last axis: int64, or Python's where 63 bits do not hold them."""
    width = bits.shape[-1]
    kind = np.int64 if width < 63 else object
    total = np.zeros(bits.shape[:-1], kind)
    for k in range(width):
        weight = -(1 << k) if signed and k == width - 1 else 1 << k
        total = total + bits[..., k].astype(kind) * weight
    return total


def _nearest_float32(integers: Array, exponent: int) -> NDArray[np.float32]:
    """integers * 2^exponent, rounded once."""
    kept = np.array([_rounded_to_odd(int(n)) for n in integers.ravel()], dtype=np.float64)
    values = np.ldexp(kept.reshape(integers.shape), exponent)
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def _rounded_to_odd(n: int) -> int:
    """The 50 leading bits of an integer, the last one set if anything was cut off below.

    float64 holds them, and rounding what they say to float32 rounds once.
    """
    drop = max(0, n.bit_length() - 50)
    return ((n >> drop) | (n & ((1 << drop) - 1) != 0)) << drop
