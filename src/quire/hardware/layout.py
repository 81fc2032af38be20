"""What a host has to know of a port to encode and decode it without Quire: numbers and tables.

The reader is `tb/codec.py` of the emitted folder.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire.formats import Block
from quire.hardware.stream import Codes, Integers, Stream

WIDEST_TABLE = 16
"""Bits of the widest values that are tabulated."""

_STEP = np.dtype([("from", "<i8"), ("code", "<u4")])


def layout(stream: Stream, port: str) -> dict[str, Any]:
    """The entry of a port in the manifest; `values` and `steps` name the files of `tables`."""
    values = stream.values
    if isinstance(values, Integers):
        return {
            "value_bits": values.bits,
            "signed": True,
            "exponent": values.exponent,
            "scale_bits": 0,
            "block": None,
        }
    has_tables = values.bits <= WIDEST_TABLE
    files = {kind: f"tb/formats/{port}.{kind}.npy" if has_tables else None for kind in _TABLES}
    data: dict[str, Any] = {
        "value_bits": values.bits,
        "signed": False,
        "scale_bits": values.beat_scale_bits,
        "block": values.block_size,
        **files,
    }
    scale = values.dynamic_scale
    if scale is None:
        return {**data, "factor": float(values.factor)}
    return {
        **data,
        "element_emax": values.element.emax,
        "zero": int(values.element.codes_of(torch.zeros(1, dtype=torch.float64))),
        "scale_exponent": scale.smallest_exponent,
        "scale_highest": scale.emax,
        "scale_nan": -1 if scale.nan_code is None else scale.nan_code,
    }


def tables(stream: Stream, port: str) -> dict[str, bytes]:
    """{path: content} of the tables of a port, in NumPy's format."""
    values = stream.values
    if isinstance(values, Integers) or values.bits > WIDEST_TABLE:
        return {}
    return {f"tb/formats/{port}.{kind}.npy": _npy(table(values)) for kind, table in _TABLES.items()}


def _values(codes: Codes) -> NDArray[Any]:
    """What each code means, float64."""
    every = torch.arange(2**codes.bits)
    return codes.element.values_of(every).double().numpy().astype("<f8")


def _steps(codes: Codes) -> NDArray[Any]:
    """How real numbers become codes, in ascending order: (from where on, as ordered bits; code).

    Rounding is monotone, so the first float64 of each code is found by bisection between the
    values of two neighbours; which rule rounds does not matter.
    """
    element = codes.element
    lowest = max(element.lowest, -element.highest) if isinstance(codes.format, Block) else None

    def rounded(keys: Tensor) -> Tensor:
        return _ordered(element.round(_unordered(keys), lowest).double())

    reals = element.values_of(torch.arange(2**codes.bits)).double()
    reals = reals[reals.isfinite()]
    found = torch.unique(rounded(_ordered(reals)))  # without codes that are read, never written
    low, high = found[:-1].clone(), found[1:].clone()  # high rounds to itself, low does not
    while bool((high - low > 1).any()):
        middle = low + (high - low) // 2
        above = rounded(middle) >= found[1:]
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    steps = np.empty(len(found), _STEP)
    steps["from"] = np.concatenate([[np.iinfo(np.int64).min], high.numpy()])
    steps["code"] = element.codes_of(_unordered(found)).numpy()
    return steps


_TABLES = {"values": _values, "steps": _steps}


def _ordered(x: Tensor) -> Tensor:
    """Integers in the order of float64 values, -0 below +0."""
    bits = x.view(torch.int64)
    return torch.where(bits < 0, bits ^ torch.iinfo(torch.int64).max, bits)


def _unordered(keys: Tensor) -> Tensor:
    """The inverse of `_ordered`."""
    bits = torch.where(keys < 0, keys ^ torch.iinfo(torch.int64).max, keys)
    return bits.view(torch.float64)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
