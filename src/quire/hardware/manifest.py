"""The manifest of an emitted folder: what a host, a simulator and a reader have to know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from quire.formats import parse
from quire.hardware.design import Design
from quire.hardware.layout import layout
from quire.hardware.stream import Codes, Integers, Stream

VERSION = 1


def manifest(
    design: Design, sources: Sequence[str], contents: Mapping[str, bytes]
) -> dict[str, Any]:
    """The manifest as plain data.

    sources: in the order in which tools read them. contents: of every other file of the folder.
    """
    return {
        "version": VERSION,
        "top": design.name,
        "interval": design.interval,
        "latency": design.latency,
        "inputs": [port_json(stream, "s_axis") for stream in design.inputs],
        "outputs": [port_json(stream, "m_axis") for stream in design.outputs],
        "sources": list(sources),
        "stages": [
            {
                "name": stage.name,
                "kind": stage.kind,
                "module": stage.module,
                "reads": [stream.name for stream in stage.reads],
                "writes": [stream.name for stream in stage.writes],
                "interval": stage.interval,
                "detail": stage.detail,
            }
            for stage in design.stages
        ],
        "streams": [_stream(stream) for stream in design.streams],
        "hashes": {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()},
    }


def port_json(stream: Stream, kind: str) -> dict[str, Any]:
    """A port of the top; kind: "s_axis" or "m_axis"."""
    port = f"{kind}_{stream.name}"
    return {
        "port": port,
        "bytes": stream.beat_bytes,
        **_stream(stream),
        "layout": layout(stream, port),
    }


def _stream(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "shape": list(stream.shape),
        "lanes": stream.lanes,
        "beats": stream.beats,
        "bits": stream.beat_bits,
        "values": values_json(stream.values),
    }


def values_json(values: Integers | Codes) -> dict[str, Any]:
    """What the values of a stream are, as plain data."""
    if isinstance(values, Integers):
        # As strings: JSON readers keep no integers beyond 2^53.
        return {"low": str(values.low), "high": str(values.high), "exponent": values.exponent}
    return {"format": str(values.format), "scale": values.scale}


def values_from_json(data: Mapping[str, Any]) -> Integers | Codes:
    """The inverse of `values_json`."""
    if "format" in data:
        scale = data["scale"]
        return Codes(parse(data["format"]), tuple(scale) if isinstance(scale, list) else scale)
    return Integers(int(data["low"]), int(data["high"]), data["exponent"])
