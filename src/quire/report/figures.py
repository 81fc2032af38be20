"""What the plots of a page share: titles, scales and the look of a Plotly figure.

A figure is a plain dict. Its colours are tokens ("@ink") that the page resolves, so that one figure
serves the light and the dark theme: `page.css` gives each token its value.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from quire.report.results import StudyResults, TrialRecord

TITLES: Mapping[str, str] = {
    "bits": "average bits per value",
    "weight_bits": "average bits per weight",
    "activation_bits": "average bits per activation",
    "memory": "memory (bytes)",
    "macs": "multiply-accumulates",
    "bitops": "bit operations (MACs × weight bits × activation bits)",
    "area": "area (LUT, a DSP as several)",
    "interval": "interval (cycles a sample)",
    "latency": "latency (cycles)",
    "rate": "samples a second",
    "microseconds": "microseconds a step",
    "device_memory": "memory on the device (bytes)",
}
LOG_RATIO = 4  # an axis whose largest value is this many times its smallest is logarithmic

Figure = dict[str, Any]


def axes(results: StudyResults) -> tuple[str, str]:
    """The metrics drawn across and upwards: the second objective (bits if there is one only)."""
    names = list(results.objectives)
    return (names[1] if len(names) > 1 else "bits"), names[0]


def views(results: StudyResults) -> list[StudyResults]:
    """The results once for each pair of objectives, with that pair first: the axes of a front."""
    goals = results.objectives
    pairs = list(combinations(goals, 2)) or [tuple(goals)]
    orders = [dict.fromkeys([*pair, *goals]) for pair in pairs]
    return [replace(results, objectives={m: goals[m] for m in order}) for order in orders]


def title(results: StudyResults, metric: str) -> str:
    """The axis title of a metric: its words, its unit, and which way is better."""
    words = TITLES.get(metric, metric.replace("_", " "))
    better = {"min": " · lower is better", "max": " · higher is better"}
    return words + better.get(results.objectives.get(metric, ""), "")


def drawn_metrics(results: StudyResults) -> list[str]:
    """The metrics of the fronts' plots: those of the first, then every other objective."""
    return list(dict.fromkeys([*axes(results), *results.objectives]))


def complete(results: StudyResults) -> list[TrialRecord]:
    """The trials that ran and have the metrics of every front's plot."""
    needed = set(drawn_metrics(results))
    return [t for t in results.trials if t.state == "complete" and needed <= t.metrics.keys()]


def short(text: str) -> str:
    """A format without the names of its parameters: bfp(4,scale_bits=8,size=16) is bfp(4,8,16)."""
    return re.sub(r"\w+=", "", text)


def brief(text: str) -> str:
    """A format for narrow places: block(fixed(4,0),size=32,scale=bf16) is fixed(4,0)/32·bf16."""
    found = re.fullmatch(r"block\((.*),size=(\w+),scale=([^=]*)\)", text)
    return f"{short(found[1])}/{found[2]}·{short(found[3])}" if found else short(text)


def without_corrections(text: str) -> str:
    """The format of an entry such as `mxint4+gptq`."""
    return text.partition("+")[0]


def layout(across: str, up: str) -> Figure:
    axis = {
        "gridcolor": "@grid",
        "linecolor": "@rule",
        "tickcolor": "@rule",
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
    }
    return {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "@ink"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 64, "r": 16, "t": 24, "b": 52},
        "xaxis": {**axis, "title": {"text": across, "standoff": 12}, "showline": True},
        "yaxis": {**axis, "title": {"text": up, "standoff": 10}},
        "hoverlabel": {
            "bgcolor": "@panel",
            "bordercolor": "@rule",
            "font": {"color": "@ink", "size": 13},
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": False,
        "hovermode": "closest",
    }


def scale(values: Sequence[float]) -> Figure:
    """A logarithmic axis where the values are positive and span much, else a linear one."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low > 0 and high > LOG_RATIO * low:
        return logarithmic(low, high)
    return {"type": "linear"}


def logarithmic(low: float, high: float) -> Figure:
    """A logarithmic axis with round ticks, five to a decade or one where there are many decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leading = (1, 2, 3, 5, 7) if last - first <= 2 else (1,)
    ticks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in leading]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def points(
    results: StudyResults, trials: Sequence[TrialRecord], name: str, marker: Figure
) -> Figure:
    across, up = axes(results)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [t.metrics[across] for t in trials],
        "y": [t.metrics[up] for t in trials],
        "customdata": [t.number for t in trials],
        "text": [t.label or f"trial {t.number}" for t in trials],
        "marker": marker,
        "hovertemplate": (
            f"<b>%{{text}}</b><br>{up} %{{y:.4g}}<br>{across} %{{x:.4g}}<extra></extra>"
        ),
    }


def ring(size: int) -> Figure:
    """The trace of a ring, still without a place, for the point that is selected."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "selected",
        "x": [],
        "y": [],
        "marker": {"symbol": "circle-open", "size": size, "color": "@ink", "line": {"width": 2}},
        "hoverinfo": "skip",
    }
