"""Sensitivities as a table for a terminal, whose colours are those of a heat map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.style import Style
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from quire.explore.sensitivity import Sensitivities

COLD, MILD, HOT = (243, 239, 228), (240, 163, 94), (143, 29, 44)
"""Colours of the smallest, a middling and the largest value, in equal steps of the logarithm."""

DECADES = 7
"""Below the largest value; what is smaller has the colour of the smallest."""


def sensitivity_table(found: Sensitivities) -> Table:
    """Sites downwards, formats across, the smallest first; a choice not measured is empty.

    Formats of which each site has its own, such as `fixed(4,fitted)`, share a column.
    """
    bits = {c.label: c.bits for g in reversed(found.space.groups) for c in g.candidates}
    columns = sorted(bits, key=lambda label: bits[label])
    values = [v for row in found.values.values() for v in row.values() if 0 < v < math.inf]
    high = math.log10(max(values, default=1.0))
    table = Table("site", title=found.loss, box=None, pad_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for group in found.space.groups:
        row = found.values.get(group.name, {})
        cells = {c.label: _cell(row[c.format], high) for c in group.candidates if c.format in row}
        if cells:
            table.add_row(group.name, *(cells.get(column, "") for column in columns))
    return table


def _cell(value: float, high: float) -> Text:
    """A value on the colour of its size, in black or white."""
    level = math.log10(value) - high + DECADES if value > 0 else 0.0
    share = min(max(level / DECADES, 0.0), 1.0)
    low, up, part = (COLD, MILD, 2 * share) if share < 0.5 else (MILD, HOT, 2 * share - 1)
    colour = [round(a + part * (b - a)) for a, b in zip(low, up, strict=True)]
    ink = "black" if share < 0.75 else "white"
    return Text(f"{value:.2g}", Style.parse(f"{ink} on rgb({','.join(map(str, colour))})"))
