"""The plot of the Pareto front: all trials, the uniform formats by name, the chosen plan."""

import math
from collections.abc import Sequence
from itertools import pairwise

from quire.report.figures import (
    Figure,
    axes,
    brief,
    complete,
    layout,
    points,
    ring,
    scale,
    title,
)
from quire.report.labels import Point, place
from quire.report.results import StudyResults, TrialRecord

FAR = 30
"""A line that is this many times below the lowest point is not drawn."""


def front(results: StudyResults) -> Figure:
    """All trials, the uniform formats by name, the front's line, and the chosen plan.

    Every point carries its trial's number as `customdata`. The last trace is the selection's ring.
    """
    across, up = axes(results)
    trials = complete(results)
    baseline = [t for t in results.trials if t.baseline and up in t.metrics]
    uniform = [t for t in trials if t.uniform and t not in baseline]
    best = [t for t in trials if t.number in results.front and t not in baseline]
    best.sort(key=lambda trial: trial.metrics[across])
    named = {t.number for t in [*uniform, *best, *baseline]}
    others = [t for t in trials if t.number not in named]
    plot = layout(title(results, across), title(results, up))
    drawn = [*others, *best, *uniform]
    baseline = [t for t in baseline if not _is_far(t.metrics[up], [d.metrics[up] for d in drawn])]
    lines = [*results.limits.items(), *((up, t.metrics[up]) for t in baseline)]
    for key, metric in (("xaxis", across), ("yaxis", up)):
        low = min((value for name, value in lines if name == metric), default=1.0)
        values = [t.metrics[metric] for t in drawn]
        plot[key].update(scale(values if low > 0 else [low, *values]))
    plot["shapes"], plot["annotations"] = _marks(results, baseline, plot)
    traces = [
        points(results, others, "trials", {"color": "@trial", "size": 6, "opacity": 0.55}),
        _front_line(results, best),
        points(results, best, "front", {"color": "@front", "size": 9, "line": {"width": 0}}),
        _uniform(results, uniform, best, others, plot),
        points(
            results,
            [t for t in trials if t.number == results.chosen],
            "chosen plan",
            {"color": "@chosen", "size": 17, "symbol": "star", "line": {"width": 1}},
        ),
        ring(20),
    ]
    return {"data": traces, "layout": plot}


def _is_far(value: float, others: Sequence[float]) -> bool:
    """Whether a value lies so far below others, as the divergence of fp32 from itself does, that on
    one scale with it they could not be told apart."""
    low = min(others, default=0.0)
    return low > 0 and value < low / FAR


def _front_line(results: StudyResults, best: Sequence[TrialRecord]) -> Figure:
    """The line through the front; of more than two objectives, through the best on these axes."""
    across, up = axes(results)
    best = _unbeaten(results, best)
    shape = "hv" if results.objectives.get(across, "min") == "min" else "vh"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "front's line",
        "x": [t.metrics[across] for t in best],
        "y": [t.metrics[up] for t in best],
        "line": {"shape": shape, "width": 2, "color": "@front"},
        "hoverinfo": "skip",
    }


def _unbeaten(results: StudyResults, best: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that no other beats on the two axes."""
    signs = {
        metric: -1 if results.objectives.get(metric) == "max" else 1 for metric in axes(results)
    }
    losses = [tuple(sign * t.metrics[metric] for metric, sign in signs.items()) for t in best]
    return [
        trial
        for trial, (x, y) in zip(best, losses, strict=True)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in losses)
    ]


def _uniform(
    results: StudyResults,
    uniform: Sequence[TrialRecord],
    best: Sequence[TrialRecord],
    others: Sequence[TrialRecord],
    plot: Figure,
) -> Figure:
    """The uniform formats, each name placed clear of the front and, where it can be, of trials."""
    chosen = [t.number == results.chosen for t in uniform]  # a star stands there
    marker = {
        "color": "@uniform",
        "size": [20 if starred else 10 for starred in chosen],
        "opacity": [0 if starred else 1 for starred in chosen],
        "symbol": "diamond",
    }
    trace = points(results, uniform, "uniform formats", marker)
    names = [brief(t.label.removeprefix("uniform ")) for t in uniform]
    return {
        **trace,
        "mode": "markers+text",
        "text": names,
        "hovertext": [t.label for t in uniform],
        "hovertemplate": trace["hovertemplate"].replace("%{text}", "%{hovertext}"),
        "textposition": place(
            names,
            _places(results, uniform, plot),
            _steps(_places(results, best, plot)),
            _places(results, others, plot),
        ),
        "textfont": {"color": "@uniform", "size": 12},
        "cliponaxis": False,
    }


def _places(results: StudyResults, trials: Sequence[TrialRecord], plot: Figure) -> list[Point]:
    """Where trials lie on the plot, in the units of its axes: logarithms where those are so."""
    across, up = axes(results)
    log_x, log_y = (plot[axis]["type"] == "log" for axis in ("xaxis", "yaxis"))
    return [
        (
            math.log(t.metrics[across]) if log_x else t.metrics[across],
            math.log(t.metrics[up]) if log_y else t.metrics[up],
        )
        for t in trials
    ]


def _steps(corners: Sequence[Point]) -> list[Point]:
    """Points along the front's line, close enough that no name fits between two."""
    along: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        shares = [step / 12 for step in range(13)]
        along += [(x0 + share * (x1 - x0), y0) for share in shares]
        along += [(x1, y0 + share * (y1 - y0)) for share in shares]
    return [*along, *corners]


def _marks(
    results: StudyResults, baseline: Sequence[TrialRecord], plot: Figure
) -> tuple[list[Figure], list[Figure]]:
    """Lines and their words: a limit on a drawn metric, and the height of the fp32 model."""
    across, up = axes(results)
    drawn = [(m, bound, f"limit {bound:g}") for m, bound in results.limits.items()]
    drawn += [(up, trial.metrics[up], "fp32") for trial in baseline[:1]]
    along = {across: "x", up: "y"}
    marks = [(along[metric], value, text) for metric, value, text in drawn if metric in along]
    return (
        [_line(axis, value) for axis, value, _ in marks],
        [_words(axis, value, text, plot) for axis, value, text in marks],
    )


def _line(axis: str, value: float) -> Figure:
    other = "y" if axis == "x" else "x"
    return {
        "type": "line",
        "layer": "below",
        f"{axis}0": value,
        f"{axis}1": value,
        f"{other}0": 0,
        f"{other}1": 1,
        f"{other}ref": f"{other} domain",
        "line": {"color": "@muted", "width": 1.2, "dash": "dot"},
    }


def _words(axis: str, value: float, text: str, plot: Figure) -> Figure:
    """The name of a line: above a vertical one, over the left end of a horizontal one."""
    if plot[f"{axis}axis"]["type"] == "log":
        value = math.log10(value)  # annotations, unlike shapes, take the exponent
    place = (
        {"x": value, "y": 1, "yref": "y domain", "xanchor": "center"}
        if axis == "x"
        else {"x": 0, "xref": "x domain", "y": value, "xanchor": "left", "xshift": 4}
    )
    return {
        **place,
        "text": text,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": "@muted", "size": 12},
    }
