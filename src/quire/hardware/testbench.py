"""The bench of an emitted folder: what `tb/` holds besides its programs, and the vectors.

Expected results are exact values turned into bits, never numbers rounded to float32: an output
that no cast rounded may be wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.axi import Beats, decode, encode
from quire.hardware.design import Design
from quire.hardware.layout import tables
from quire.hardware.reference import unrounded_outputs
from quire.hardware.stream import Codes, Integers, Stream
from quire.ops.digits import LIMB
from quire.ops.exact_value import Exact

RANDOM = 16
"""Samples of random codes."""

CHUNK = 4096
"""Samples that the exact graph takes at a time."""

_PROGRAMS = ("bench.py", "codec.py", "run.py")


def bench(design: Design, q: GraphModule, vectors: Sequence[Tensor] | None) -> dict[str, bytes]:
    """{path: content} of `tb/` for the design of a graph.

    vectors: samples for the bench, float (samples, *shape), one tensor for each input; None: random
    ones only.
    """
    folder = files("quire.hardware") / "tb"
    found = {f"tb/{name}": (folder / name).read_bytes() for name in _PROGRAMS}
    for stream in design.inputs:
        found |= tables(stream, f"s_axis_{stream.name}")
    for stream in design.outputs:
        found |= tables(stream, f"m_axis_{stream.name}")
    found |= _vectors("random", design, q, random_inputs(design, RANDOM))
    if vectors is not None:
        _check(design, vectors)
        found |= _vectors("samples", design, q, vectors)
    return found


def random_inputs(design: Design, samples: int, seed: int = 0) -> list[Tensor]:
    """Values of random codes (and random scales), float32 (samples, *shape) for each input."""
    source = np.random.Generator(np.random.PCG64(seed))
    values: list[Tensor] = []
    for stream in design.inputs:
        shape = (samples, stream.beats, stream.beat_bytes)
        x = decode(stream, source.integers(0, 256, shape, dtype=np.uint8))
        values.append(x.nan_to_num(nan=0.0))  # NaN and Inf never enter
    return values


def _check(design: Design, vectors: Sequence[Tensor]) -> None:
    names = ", ".join(stream.name for stream in design.inputs)
    if len(vectors) != len(design.inputs):
        raise HardwareError(f"vectors: {len(vectors)} tensors for a design that has {names}")
    counts = {len(x) for x in vectors if x.ndim}
    if len(counts) != 1 or counts == {0}:
        raise HardwareError(f"vectors of {names} have {sorted(counts)} samples: give each the same")


def _vectors(
    name: str, design: Design, q: GraphModule, inputs: Sequence[Tensor]
) -> dict[str, bytes]:
    """A set of vectors: the bytes of each input, and those that each output must give."""
    beats = {
        f"s_axis_{stream.name}": encode(stream, x)
        for stream, x in zip(design.inputs, inputs, strict=True)
    }
    parts = [_expected(design, q, [x[i : i + CHUNK] for x in inputs]) for i in _starts(inputs)]
    for i, stream in enumerate(design.outputs):
        beats[f"m_axis_{stream.name}"] = np.concatenate([part[i] for part in parts])
    return {f"tb/vectors/{name}/{port}.bin": data.tobytes() for port, data in beats.items()}


def _starts(inputs: Sequence[Tensor]) -> range:
    return range(0, len(inputs[0]), CHUNK)


def _expected(design: Design, q: GraphModule, inputs: Sequence[Tensor]) -> list[Beats]:
    """The beats of each output of the exact graph."""
    results = unrounded_outputs(q, inputs)
    return [
        _beats(stream, result, len(inputs[0]))
        for stream, result in zip(design.outputs, results, strict=True)
    ]


def _beats(stream: Stream, result: Exact, samples: int) -> Beats:
    """Exact values as the beats of an output."""
    values = stream.values
    if isinstance(values, Codes):
        # What a cast gave has its -0 with it.
        origin = result.origin if result.format else None
        x = result.to_sticky_float64() if origin is None else origin.emitted
        return encode(stream, x.reshape(samples, *stream.shape))
    rows = _twos_complement(result, values).reshape(-1, stream.row, values.bits)
    padding = stream.row_beats * stream.lanes - stream.row
    lanes = np.pad(rows, ((0, 0), (0, padding), (0, 0)))
    fields = lanes.reshape(samples, stream.beats, stream.lanes * values.bits)
    return np.packbits(fields, axis=-1, bitorder="little")


def _twos_complement(result: Exact, values: Integers) -> NDArray[np.uint8]:
    """The bits of exact values as integers on the grid of a stream, low bits first."""
    assert not result.divisors
    assert result.quotient is None
    columns: list[Tensor] = []
    carry = torch.zeros_like(result.limbs[0])
    enough = values.bits + abs(result.exponent - values.exponent)
    for limb in [*result.limbs, *[carry] * (enough // LIMB + 5)]:
        carry = carry + limb
        columns += [(carry >> k) & 1 for k in range(LIMB)]
        carry = carry >> LIMB
    bits = torch.stack(columns, -1).reshape(-1, len(columns)).numpy().astype(np.uint8)
    first = values.exponent - result.exponent
    bits = np.pad(bits, ((0, 0), (max(0, -first), 0)))[:, max(0, first) :]
    return bits[:, : values.bits]
