"""The measured table: `table.json`, which kernel took how long for which case on which device.

{"version": 1, "rows": [{"device": "NVIDIA H200", "op": "mx_linear", "format": "mxint8",
"dtype": "bfloat16", "m": 1, "n": 4096, "k": 4096, "kernel": "...", "microseconds": 8.0}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

from quire.formats import parse

if TYPE_CHECKING:
    from quire.software.kernels import Case

PATH = Path(__file__).parent / "table.json"


@dataclass(frozen=True)
class Row:
    """One measurement; the fields are those of `Case`, the dtype by name."""

    device: str
    op: str
    format: str
    dtype: str
    m: int
    n: int
    k: int
    kernel: str
    microseconds: float


@cache
def rows(path: Path = PATH) -> tuple[Row, ...]:
    """The rows of a table, none where there is no file."""
    if not path.exists():
        return ()
    return tuple(Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"])


def distance(row: Row, case: Case) -> float:
    """How far the shape of a row is from that of a case, in octaves.

    A row with a smaller m counts for an octave more: kernels take m in tiles, and one that is made
    for fewer rows reads the weight again for the rest.
    """
    pairs = ((row.m, case.m), (row.n, case.n), (row.k, case.k))
    octaves = sum(abs(log2((a or 1) / (b or 1))) for a, b in pairs)
    return octaves + (row.m < case.m)


def nearest(op: str, case: Case, kernels: Container[str], path: Path = PATH) -> Row | None:
    """The fastest row of the measured shape that is nearest to a case, or None.

    kernels: the names of those that can run the case. Without a row of the device, or of the
    format, those of other devices, and of formats with the next number of bits, serve.
    """
    dtype = str(case.dtype).removeprefix("torch.")
    found = [
        row for row in rows(path) if (row.op, row.dtype) == (op, dtype) and row.kernel in kernels
    ]
    return min(found, key=lambda row: _rank(row, case), default=None)


def _rank(row: Row, case: Case) -> tuple[float, ...]:
    """What is compared in turn: the device, the format, the shape, the time."""
    bits = abs(parse(row.format).bits - case.format.bits)
    elsewhere = row.device != case.device
    is_other = row.format != str(case.format)
    return (elsewhere, bits, is_other, distance(row, case), row.microseconds)
