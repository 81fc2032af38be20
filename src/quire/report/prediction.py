"""The plot of predicted against true loss: whether the sensitivities order plans as runs do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.report.figures import Figure, complete, layout, logarithmic, ring
from quire.report.reasons import Sensitivities
from quire.report.results import StudyResults, TrialRecord

MOST_TICKS = 5


@dataclass(frozen=True)
class Pair:
    """A trial with the sum of its choices' sensitivities, and what it lost against fp32."""

    trial: TrialRecord
    predicted: float
    lost: float


def pairs(results: StudyResults, found: Sensitivities) -> list[Pair]:
    """The completed plans whose choices were all measured.

    The loss is how much worse the first objective is than that of the fp32 model; where that is not
    among the trials, than nothing.
    """
    metric, way = next(iter(results.objectives.items()))
    sign = -1.0 if way == "max" else 1.0
    start = next((t.metrics.get(metric, 0.0) for t in results.trials if t.baseline), 0.0)
    run = [t for t in complete(results) if t.plan and not t.baseline]
    sums = [(trial, found.predicted(trial.plan)) for trial in run]
    return [Pair(t, s, sign * (t.metrics[metric] - start)) for t, s in sums if s is not None]


def prediction(results: StudyResults) -> dict[str, Any] | None:
    """{"plot", "note"}: a point a plan; None where there are fewer than three.

    Of a loss, the line on which both are equal is drawn. The last trace is the selection's ring.
    """
    if results.sensitivities is None:
        return None
    found = pairs(results, results.sensitivities)
    drawn = [pair for pair in found if pair.lost > 0 and 0 < pair.predicted < float("inf")]
    if len(drawn) < 3:
        return None
    metric, way = next(iter(results.objectives.items()))
    up = f"{metric.replace('_', ' ')} {'below' if way == 'max' else 'above'} fp32"
    plot = layout("predicted: sum of sensitivities", up)
    across, along = [pair.predicted for pair in drawn], [pair.lost for pair in drawn]
    plot["xaxis"].update(_sparse(logarithmic(min(across), max(across))))
    plot["yaxis"].update(_sparse(logarithmic(min(along), max(along))))
    uniform = [pair for pair in drawn if pair.trial.uniform]
    others = [pair for pair in drawn if not pair.trial.uniform]
    traces = [
        _points(others, "plans", {"color": "@trial", "size": 6, "opacity": 0.6}, metric),
        _points(uniform, "uniform", {"color": "@uniform", "size": 9, "symbol": "diamond"}, metric),
        *([_equal(across, along)] if way == "min" else []),
        ring(16),
    ]
    return {"plot": {"data": traces, "layout": plot}, "note": _note(results, found, drawn)}


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, equal values sharing one; 0 where all are equal."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (a, b)]
    if any(np.ptp(values) == 0 for values in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def _sparse(axis: Figure) -> Figure:
    """An axis whose ticks fit a small plot: of many, those that begin with 1 or 3."""
    ticks = axis["tickvals"]
    kept = [tick for tick in ticks if len(ticks) <= MOST_TICKS or f"{tick:e}"[0] in "13"]
    return {**axis, "tickvals": kept, "ticktext": [f"{tick:g}" for tick in kept]}


def _points(found: Sequence[Pair], name: str, marker: Figure, metric: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [pair.predicted for pair in found],
        "y": [pair.lost for pair in found],
        "customdata": [pair.trial.number for pair in found],
        "text": [pair.trial.label or f"trial {pair.trial.number}" for pair in found],
        "marker": marker,
        "hovertemplate": f"<b>%{{text}}</b><br>predicted %{{x:.3g}}<br>{metric} %{{y:.3g}} from "
        "fp32<extra></extra>",
    }


def _equal(across: Sequence[float], along: Sequence[float]) -> Figure:
    """Where both are equal, as far as either goes."""
    ends = [max(min(across), min(along)), min(max(across), max(along))]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": ends,
        "y": ends,
        "line": {"color": "@muted", "width": 1.4, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _note(results: StudyResults, found: Sequence[Pair], drawn: Sequence[Pair]) -> str:
    """What the plot says in a number, and what is not on it."""
    correlation = rank_correlation([p.predicted for p in found], [p.lost for p in found])
    words = [f"Rank correlation {correlation:.2f} over {len(found):,} plans."]
    if next(iter(results.objectives.values())) == "min":
        words.append("On the dotted line both are equal.")
    better = len(found) - len(drawn)
    if better:
        words.append(f"Not on this scale: {better:,} no worse than fp32.")
    missing = sum(bool(t.plan) for t in complete(results)) - len(found)
    if missing:
        words.append(f"Not predicted: {missing:,}, with choices that were not measured alone.")
    return " ".join(words)
