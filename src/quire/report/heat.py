"""The heat map of sensitivities: what each format at each site costs the outputs alone."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from quire.report.figures import Figure, brief, layout
from quire.report.reasons import Sensitivities
from quire.report.results import StudyResults

ROW, LETTER, BELOW = 19, 5.6, 12
"""Of a site, of a letter of a format at its slant, and of what is below, in pixels."""

BAR, BAR_HEIGHT = 150, 52
"""Of the bar of colours, which stands in the corner above the sites."""

DECADES = 7
"""Below the largest value; what is smaller has the lowest colour."""

MONO = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"

COLOURS = ("@cold", "@mild", "@hot")

Cell: TypeAlias = tuple[str, float]
"""A format and its sensitivity."""


def columns(found: Sensitivities, formats: Iterable[str]) -> dict[str, str]:
    """{format: the column that it stands in}, in the order of `formats`.

    Fixed-point formats of one width share a column where each site has but one of them, such as
    that whose fraction bits fit its data.
    """
    given = {name: re.sub(r"^(u?fixed\(\d+),-?\d+\)$", r"\1,·)", name) for name in formats}
    several = {
        column
        for row in found.values.values()
        for column, count in Counter(given.get(name, name) for name in row).items()
        if count > 1
    }
    return {name: brief(name if column in several else column) for name, column in given.items()}


def heat(results: StudyResults, found: Sensitivities, places: Mapping[str, str]) -> Figure:
    """The map, sites downwards and formats across, the colour in decades.

    places: {format: its column}. A choice that was not measured is blank, one whose outputs are not
    finite is drawn as the largest. The last trace marks a plan's choices: the page sets its points.
    """
    across = list(dict.fromkeys(places.values()))
    sites = [site.name for site in results.sites if site.name in found.values][::-1]
    values = [v for row in found.values.values() for v in row.values() if 0 < v < math.inf]
    high = math.log10(max(values, default=1.0))
    low = max(math.log10(min(values, default=1.0)), high - DECADES)
    taken = [{places[name]: (name, v) for name, v in found.values[s].items()} for s in sites]
    rows = [[row.get(column) for column in across] for row in taken]
    cells: Figure = {
        "type": "heatmap",
        "name": "sensitivities",
        "z": [[_level(cell, low, high) for cell in row] for row in rows],
        "zmin": low,
        "zmax": max(high, low + 1),
        "colorscale": [[i / (len(COLOURS) - 1), colour] for i, colour in enumerate(COLOURS)],
        "text": [
            [_words(site, cell, found.kind) for cell in row]
            for site, row in zip(sites, rows, strict=True)
        ],
        "hoverinfo": "text",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "colorbar": _bar(low, high),
    }
    marks: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": "choices",
        "x": [],
        "y": [],
        "marker": {
            "symbol": "circle",
            "size": 9,
            "color": "@panel",
            "line": {"width": 2.4, "color": "@ink"},
        },
        "hoverinfo": "skip",
    }
    return {"data": [cells, marks], "layout": _layout(sites, across)}


def _level(cell: Cell | None, low: float, high: float) -> float | None:
    """The logarithm that a colour stands for; None for a blank."""
    if cell is None:
        return None
    return min(max(math.log10(cell[1]), low), high) if cell[1] > 0 else low


def _words(site: str, cell: Cell | None, kind: str) -> str:
    if cell is None:
        return ""
    name, value = cell
    said = f"{kind} {value:.3g}" if math.isfinite(value) else "the outputs are not finite"
    return f"<b>{site}</b><br>{name}: {said}"


def _bar(low: float, high: float) -> Figure:
    """The bar of colours, a tick a decade."""
    ticks = range(math.ceil(low), math.floor(high) + 1)[:: max(1, math.ceil((high - low) / 3))]
    return {
        "orientation": "h",
        "thickness": 9,
        "lenmode": "pixels",
        "len": BAR,
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "xpad": 12,
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "ypad": 6,
        "outlinewidth": 0,
        "tickvals": list(ticks),
        "ticktext": [f"1e{tick}" if tick < -2 else f"{10.0**tick:g}" for tick in ticks],
        "tickfont": {"size": 11, "color": "@muted"},
    }


def _layout(sites: Sequence[str], across: Sequence[str]) -> Figure:
    """Sites and columns by their places, from 0 on."""
    plot = layout("", "")
    head = max(16 + LETTER * max(map(len, across), default=0), BAR_HEIGHT)
    for key, names in (("xaxis", across), ("yaxis", sites)):
        plot[key].update(
            {
                "type": "linear",
                "range": [-0.5, len(names) - 0.5],
                "tickvals": list(range(len(names))),
                "ticktext": list(names),
                "title": {"text": ""},
                "showgrid": False,
                "showline": False,
                "ticks": "",
                "fixedrange": True,
            }
        )
    plot["xaxis"].update(side="top", tickangle=-45, automargin=False)
    plot["yaxis"]["tickfont"] = {"family": MONO, "size": 12}
    plot.update(
        margin={"l": 10, "r": head, "t": head, "b": BELOW},
        height=BELOW + head + ROW * len(sites),
    )
    return plot
