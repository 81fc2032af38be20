"""The plot of the Pareto front: all trials, the uniform formats by name, the chosen plan."""

from collections.abc import Sequence

from quire.report.figures import Figure, axes, complete, layout, points, scale, title
from quire.report.labels import place
from quire.report.results import StudyResults, TrialRecord


def front(results: StudyResults) -> Figure:
    """All trials, the uniform formats by name, the front's line, and the chosen plan.

    Every point carries its trial's number as `customdata`. The last trace is the selection's ring.
    """
    across, up = axes(results)
    trials = complete(results)
    baseline = [t for t in trials if t.label == "uniform fp32"]
    uniform = [t for t in trials if t.uniform and t not in baseline]
    best = [t for t in trials if t.number in results.front and t not in baseline]
    best.sort(key=lambda trial: trial.metrics[across])
    named = {t.number for t in [*uniform, *best, *baseline]}
    others = [t for t in trials if t.number not in named]
    plot = layout(title(results, across), title(results, up))
    drawn = [*others, *best, *uniform]
    for key, metric in (("xaxis", across), ("yaxis", up)):
        plot[key]["type"] = scale([t.metrics[metric] for t in drawn])
    plot["shapes"] = _lines(results, baseline)
    traces = [
        points(results, others, "trials", {"color": "@trial", "size": 6, "opacity": 0.55}),
        _front_line(results, best),
        points(results, best, "front", {"color": "@front", "size": 9, "line": {"width": 0}}),
        _uniform(results, uniform, best, plot),
        points(
            results,
            [t for t in trials if t.number == results.chosen],
            "chosen plan",
            {"color": "@chosen", "size": 17, "symbol": "star", "line": {"width": 1}},
        ),
        _ring(),
    ]
    return {"data": traces, "layout": plot}


def _front_line(results: StudyResults, best: Sequence[TrialRecord]) -> Figure:
    across, up = axes(results)
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


def _uniform(
    results: StudyResults,
    uniform: Sequence[TrialRecord],
    best: Sequence[TrialRecord],
    plot: Figure,
) -> Figure:
    marker = {"color": "@uniform", "size": 10, "symbol": "diamond"}
    trace = points(results, uniform, "uniform formats", marker)
    names = [t.label.removeprefix("uniform ") for t in uniform]
    blocked = points(results, best, "", {})
    logarithmic = (plot["xaxis"]["type"] == "log", plot["yaxis"]["type"] == "log")
    return {
        **trace,
        "mode": "markers+text",
        "text": names,
        "textposition": place(
            list(zip(trace["x"], trace["y"], strict=True)),
            names,
            list(zip(blocked["x"], blocked["y"], strict=True)),
            logarithmic,
        ),
        "textfont": {"color": "@uniform", "size": 12},
        "cliponaxis": False,
    }


def _ring() -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "selected",
        "x": [],
        "y": [],
        "marker": {
            "symbol": "circle-open",
            "size": 20,
            "color": "@ink",
            "line": {"width": 2},
        },
        "hoverinfo": "skip",
    }


def _lines(results: StudyResults, baseline: Sequence[TrialRecord]) -> list[Figure]:
    """A line for each limit on a drawn metric, and one at the height of the fp32 model."""
    across, up = axes(results)
    drawn = [
        (metric, results.limits[metric], f"limit {results.limits[metric]:g}")
        for metric in (across, up)
        if metric in results.limits
    ]
    drawn += [(up, trial.metrics[up], "fp32") for trial in baseline[:1]]
    shapes: list[Figure] = []
    for metric, value, text in drawn:
        along, other = ("x", "y") if metric == across else ("y", "x")
        shapes.append(
            {
                "type": "line",
                "layer": "below",
                f"{along}0": value,
                f"{along}1": value,
                f"{other}0": 0,
                f"{other}1": 1,
                f"{other}ref": f"{other} domain",
                "line": {"color": "@muted", "width": 1.2, "dash": "dot"},
                "label": {
                    "text": text,
                    "textposition": "end",
                    "textangle": 0,
                    "font": {"color": "@muted", "size": 12},
                },
            }
        )
    return shapes
