"""Tables: any finite set of values, listed."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from quire.errors import FormatError
from quire.formats.base import Scalar, floor_log2
from quire.formats.carrier import FLOAT32
from quire.formats.registry import family

# NF4: quantiles of a normal distribution with an exact zero (Dettmers et al., QLoRA, 2023,
# appendix E), as the float32 values that its authors publish.
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

TABLES: dict[str, tuple[float, ...]] = {"nf4": NF4}


def _first_above(low: float, high: float, tie_goes_up: bool, dtype: type[np.floating]) -> float:
    """The smallest number of a dtype that rounds to `high` and not to `low`."""
    middle = (Fraction(low) + Fraction(high)) / 2
    nearest = dtype(float(middle))
    near = (np.nextafter(nearest, dtype(end)) for end in (-np.inf, nearest, np.inf))
    values = [Fraction(float(v)) for v in near]
    side = bisect.bisect_left if tie_goes_up else bisect.bisect_right
    return float(values[side(values, middle)])


def _thresholds(entries: tuple[float, ...], dtype: type[np.floating]) -> tuple[float, ...]:
    """For each entry but the first, the smallest number that rounds to it; ties to even codes."""
    steps = enumerate(pairwise(entries))
    return tuple(_first_above(low, high, code % 2 == 1, dtype) for code, (low, high) in steps)


THRESHOLDS = {
    (name, carrier): _thresholds(entries, dtype)
    for name, entries in TABLES.items()
    for carrier, dtype in ((torch.float32, np.float32), (torch.float64, np.float64))
}


# A unit of a table's range is cut into this many cells, of which none holds two thresholds.
_CELLS = 16
_OFFSET = 2 * _CELLS  # the index of the cell around zero; values are from -2 to 2


def cells(name: str) -> list[float]:
    """A table by cells: the threshold in each cell (or Inf), then the entries below and above it.

    Cell `i` holds what rounds to i - _OFFSET in units of a cell, ties to even.
    """
    entries, thresholds = TABLES[name], THRESHOLDS[name, torch.float32]
    inside = {round(t * _CELLS) + _OFFSET: i for i, t in enumerate(thresholds)}
    assert len(inside) == len(thresholds), f"table {name}: two thresholds in a cell"
    limits, pairs = [], list[float]()
    for cell in range(2 * _OFFSET):
        middle = (cell - _OFFSET) / _CELLS
        below = inside.get(cell, bisect.bisect_right(thresholds, middle))
        limits.append(thresholds[below] if cell in inside else math.inf)
        pairs += [entries[below], entries[min(below + 1, len(entries) - 1)]]
    return limits + pairs


def _cell_table(name: str, device: torch.device) -> Tensor:
    return torch.tensor(cells(name), dtype=torch.float32, device=device)


_kept_table = cache(_cell_table)


@torch.compiler.assume_constant_result
def _constant_table(name: str, device: torch.device) -> Tensor:
    """The same tensor in every call: Dynamo refuses two constants of one function in a graph."""
    return _kept_table(name, device)


def looked_up(name: str, y: Tensor) -> Tensor:
    """The entries nearest to float32 values, by two reads of a small table.

    In compiled GPU code they cost a third of a chain of selects, in eager mode of a search. NaN
    becomes any entry.
    """
    make = _constant_table if is_dynamo_compiling() else _cell_table
    table = make(name, y.device)
    magic = 1.5 * 2.0**FLOAT32.mantissa
    first = FLOAT32.bits_of(magic)
    bits = FLOAT32.to_bits((y * _CELLS).add_(magic + _OFFSET))
    cell = bits.clamp_(first, first + 2 * _OFFSET - 1).sub_(first)  # as in `round_within`
    above = y >= _read(table, cell)
    return _read(table, cell.mul_(2).add_(above).add_(2 * _OFFSET))


def _read(table: Tensor, index: Tensor) -> Tensor:
    """Entries of a table; the indices are in range, and compiled code need not check them."""
    if torch.compiler.is_compiling():
        return torch.ops.aten._unsafe_index.Tensor(table, [index])
    return table.index_select(0, index.flatten()).view(index.shape)


@family("table", 'table("nf4")')
@dataclass(frozen=True, repr=False)
class Table(Scalar):
    """`table("nf4")`: the listed values in ascending order; a value's code is its index."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in TABLES:
            legal = ", ".join(map(repr, TABLES))
            raise FormatError(f"table: no table named {self.name!r}: there are {legal}")

    def long_form(self) -> str:
        return f'table("{self.name}")'

    @property
    def entries(self) -> tuple[float, ...]:
        """The values, in ascending order."""
        return TABLES[self.name]

    @property
    def bits(self) -> int:
        return (len(self.entries) - 1).bit_length()

    @property
    def highest(self) -> float:
        return self.entries[-1]

    @property
    def lowest(self) -> float:
        return self.entries[0]

    @property
    def emax(self) -> int:
        return floor_log2(max(self.highest, -self.lowest))

    @property
    def _significands(self) -> list[tuple[int, int]]:
        """(bits of the odd significand, exponent of its last bit) of every non-zero value."""
        ratios = [abs(v).as_integer_ratio() for v in self.entries if v]
        trailing = [(n & -n).bit_length() - 1 for n, _ in ratios]
        return [
            (n.bit_length() - t, t - d.bit_length() + 1)
            for (n, d), t in zip(ratios, trailing, strict=True)
        ]

    @property
    def precision(self) -> int:
        return max(bits for bits, _ in self._significands)

    @property
    def quantum_exponent(self) -> int:
        return min(exponent for _, exponent in self._significands)

    @property
    def nan_code(self) -> None:
        return None

    def grid(self, y: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return torch.where(y.isnan(), y, self._searched(y))
        return self._selected(y, y * 0.0 + self.entries[0])  # NaN stays NaN

    def _selected(self, y: Tensor, value: Tensor) -> Tensor:
        """The entry nearest to `y` from the second on, else `value`, the first.

        A chain of selects: tables are short, and it fuses and vectorises where a gather does not.
        """
        for threshold, entry in zip(THRESHOLDS[self.name, y.dtype], self.entries[1:], strict=True):
            value = torch.where(y >= threshold, entry, value)
        return value

    def nearest(self, y: Tensor, lowest: float | None = None) -> Tensor:
        eager = not torch.compiler.is_compiling()
        if y.dtype == torch.float32 and (eager or (y.is_cuda and is_dynamo_compiling())):
            return looked_up(self.name, y)
        if eager:
            return self._searched(y)
        return self._selected(y, torch.full_like(y, self.entries[0]))

    def _searched(self, y: Tensor) -> Tensor:
        """The entry nearest to `y`, by a search among the thresholds; NaN becomes the last."""
        code = torch.bucketize(y.contiguous(), self._thresholds(y), out_int32=True, right=True)
        entries = self._tensor(y).to(y.dtype)
        return entries.index_select(0, code.flatten()).view(y.shape)

    def _thresholds(self, like: Tensor) -> Tensor:
        return torch.tensor(THRESHOLDS[self.name, like.dtype], dtype=like.dtype, device=like.device)

    def codes_of(self, values: Tensor) -> Tensor:
        return torch.searchsorted(self._tensor(values), values.contiguous())

    def values_of(self, codes: Tensor) -> Tensor:
        return self._tensor(codes)[codes]

    def _tensor(self, like: Tensor) -> Tensor:
        return torch.tensor(self.entries, dtype=torch.float64, device=like.device)
