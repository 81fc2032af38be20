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
    """How far the shape of a row is from that of a case, in octaves."""
    pairs = ((row.m, case.m), (row.n, case.n), (row.k, case.k))
    return sum(abs(log2((a or 1) / (b or 1))) for a, b in pairs)


def nearest(op: str, case: Case, kernels: Container[str], path: Path = PATH) -> Row | None:
    """The fastest row of the measured shape that is nearest to a case, or None.

    kernels: the names of those that can run the case.
    """
    same = (case.device, op, str(case.format), str(case.dtype).removeprefix("torch."))
    found = [
        row
        for row in rows(path)
        if (row.device, row.op, row.format, row.dtype) == same and row.kernel in kernels
    ]
    return min(found, key=lambda row: (distance(row, case), row.microseconds), default=None)
