"""What a study found, next to fp32 and the uniform plans, on validation and test data."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.table import Column, Table
from torch import nn
from torch.fx import GraphModule

import quire
from quire.explore import Study

Figure = dict[str, Any]  # {"label": ..., "metrics": {name: number}}, as a study's page takes them
BOUNDS = (4.0, 3.5)  # average bits


def compare(
    study: Study,
    graph: GraphModule,
    test: Callable[[nn.Module], dict[str, float]],
    bounds: Sequence[float] = BOUNDS,
) -> list[Figure]:
    """fp32, the uniform plans, and the best plan within each of `bounds`; the largest first.

    test: gives metrics on data that the search has not seen.
    """
    trials = {trial.label: trial for trial in study.trials if trial.label}
    trials |= {f"mixed, at most {bits} bits": study.best_trial(max_bits=bits) for bits in bounds}
    goal = next(iter(study.objectives.directions))
    figures: list[Figure] = []
    for label, trial in sorted(trials.items(), key=lambda item: -item[1].metrics["bits"]):
        bits = trial.metrics["bits"]
        best = study.best_trial(max_bits=bits).metrics[goal]
        metrics = {"bits": bits, goal: trial.metrics[goal], f"best {goal} at that size": best}
        with torch.no_grad():
            tested = test(quire.quantize(graph, trial.plan).eval())
        metrics |= {f"test {name}": value for name, value in tested.items()}
        figures.append({"label": label.removeprefix("uniform "), "metrics": metrics})
    return figures


def as_table(figures: Sequence[Figure]) -> Table:
    """The figures in columns."""
    columns = (Column(name.replace("_", " "), justify="right") for name in figures[0]["metrics"])
    table = Table(Column(no_wrap=True), *columns, box=None)
    for figure in figures:
        numbers = (f"{value:.4g}" for value in figure["metrics"].values())
        table.add_row(figure["label"], *numbers)
    return table
