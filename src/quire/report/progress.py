"""The plot of progress: the best value so far against the trials that were run, by family."""

from collections.abc import Callable, Sequence

from quire.report.figures import Figure, axes, layout, scale, title
from quire.report.results import StudyResults, TrialRecord

COLOURS = ("@front", "@uniform", "@third", "@fourth", "@fifth", "@sixth")
DASHES = ("solid", "dash", "dot")


def progress(results: StudyResults) -> Figure:
    """The best value so far of the first objective, among trials within the limits, by family."""
    _, up = axes(results)
    better = min if results.objectives[up] == "min" else max
    curves: dict[str, list[TrialRecord]] = {}
    for trial in results.trials:
        if trial.state != "pruned" and not trial.baseline:
            curves.setdefault(trial.family or "all trials", []).append(trial)
    long_enough = {name: run for name, run in curves.items() if len(run) > 1} or curves
    traces: list[Figure] = []
    for index, (name, run) in enumerate(sorted(long_enough.items())):
        steps = _best_so_far(results, run, up, better)
        traces.append(
            {
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
                "hovertemplate": f"{name}<br>trial %{{x}}: {up} %{{y:.4g}}<extra></extra>",
            }
        )
    plot = layout("trials run", "best " + title(results, up))
    plot["yaxis"].update(scale([value for trace in traces for value in trace["y"]]))
    plot["xaxis"]["rangemode"] = "tozero"
    plot["showlegend"] = len(traces) > 1
    return {"data": traces, "layout": plot}


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
    """Whether a trial meets every limit; one on a metric to maximise is a lower bound."""
    for metric, bound in results.limits.items():
        value = trial.metrics.get(metric)
        if value is None:
            return False
        if value < bound if results.objectives.get(metric) == "max" else value > bound:
            return False
    return True
