"""The plot of progress: the best value so far against the trials that were run, by family."""

from collections.abc import Callable, Sequence

from quire.report.figures import Figure, axes, layout, scale, title
from quire.report.results import StudyResults, TrialRecord

COLOURS = ("@front", "@uniform", "@third", "@fourth", "@fifth", "@sixth")
DASHES = ("solid", "dash", "dot")
LEAST_SHARE = 0.05  # of the trials; uniform plans, tried once each, are no search of a family


def progress(results: StudyResults) -> Figure:
    """The best value so far of the first objective, among trials within the limits.

    One curve a family where at least two were searched, else one curve of all trials.
    """
    _, up = axes(results)
    better = min if results.objectives[up] == "min" else max
    curves = {
        name: _best_so_far(results, run, up, better) for name, run in _families(results).items()
    }
    traces = [
        _curve(name, steps, up, index)
        for index, (name, steps) in enumerate((n, s) for n, s in curves.items() if s)
    ]
    plot = layout("trials run", "best " + title(results, up))
    plot["yaxis"].update(scale([value for trace in traces for value in trace["y"]]))
    plot["xaxis"]["rangemode"] = "tozero"
    plot["showlegend"] = len(traces) > 1
    return {"data": traces, "layout": plot}


def _families(results: StudyResults) -> dict[str, list[TrialRecord]]:
    """The trials that were run, by family; one that is hardly searched is no curve of its own."""
    run = [t for t in results.trials if t.state != "pruned" and not t.baseline]
    families: dict[str, list[TrialRecord]] = {}
    for trial in run:
        families.setdefault(trial.family, []).append(trial)
    searched = {
        name: members
        for name, members in sorted(families.items())
        if len(members) > max(1, LEAST_SHARE * len(run))
    }
    return searched if len(searched) > 1 else {"all trials": run}


def _curve(name: str, steps: Sequence[tuple[int, float]], metric: str, index: int) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines" if len(steps) > 1 else "markers",
        "name": name,
        "x": [count for count, _ in steps],
        "y": [value for _, value in steps],
        "line": {
            "shape": "hv",
            "width": 2.2,
            "color": COLOURS[index % len(COLOURS)],
            "dash": DASHES[index // len(COLOURS) % len(DASHES)],
        },
        "hovertemplate": f"{name}<br>trial %{{x}}: {metric} %{{y:.4g}}<extra></extra>",
    }


def _best_so_far(
    results: StudyResults,
    run: Sequence[TrialRecord],
    metric: str,
    better: Callable[[list[float]], float],
) -> list[tuple[int, float]]:
    """(trials run, best value) from the first trial within the limits to the last trial."""
    steps: list[tuple[int, float]] = []
    for count, trial in enumerate(run, start=1):
        found = [steps[-1][1]] if steps else []
        if trial.state == "complete" and metric in trial.metrics and _within(results, trial):
            found.append(trial.metrics[metric])
        if found:
            steps.append((count, better(found)))
    return steps


def _within(results: StudyResults, trial: TrialRecord) -> bool:
    """Whether a trial meets every limit."""
    for metric, bound in results.limits.items():
        value = trial.metrics.get(metric)
        if value is None:
            return False
        if value < bound if results.is_lower(metric) else value > bound:
            return False
    return True
