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
Measure = Callable[[nn.Module], dict[str, float]]
BOUNDS = (4.0, 3.5)  # average bits


def mixed(bits: float) -> str:
    """What the best plan of at most so many bits is called."""
    return f"mixed, at most {bits} bits"


def compare(
    study: Study,
    graph: GraphModule,
    test: Measure,
    bounds: Sequence[float] = BOUNDS,
    calibration: Any = (),
) -> list[Figure]:
    """fp32, the uniform plans, and the best plan within each of `bounds`; the largest first.

    test: gives metrics on data that the search has not seen. calibration: for corrections.
    """
    trials = {trial.label: trial for trial in study.trials if trial.label}
    trials |= {mixed(bits): study.best_trial(max_bits=bits) for bits in bounds}
    goal = next(iter(study.objectives.directions))
    figures: list[Figure] = []
    for label, trial in sorted(trials.items(), key=lambda item: -item[1].metrics["bits"]):
        q = quire.quantize(*quire.correct(graph, trial.plan, calibration)).eval()
        bits, found = trial.metrics["bits"], trial.metrics[goal]
        figures.append(figure(label.removeprefix("uniform "), study, bits, found, test, q))
    return figures


def figure(
    label: str, study: Study, bits: float, found: float, test: Measure, q: nn.Module
) -> Figure:
    """A row: the size of a plan, its goal, the best that the study has at that size, and `test`."""
    goal = next(iter(study.objectives.directions))
    best = study.best_trial(max_bits=bits).metrics[goal]
    with torch.no_grad():
        tested = {f"test {name}": value for name, value in test(q).items()}
    metrics = {"bits": bits, goal: found, f"best {goal} at that size": best}
    return {"label": label, "metrics": metrics | tested}


def as_table(figures: Sequence[Figure]) -> Table:
    """The figures in columns."""
    columns = (Column(name.replace("_", " "), justify="right") for name in figures[0]["metrics"])
    table = Table(Column(no_wrap=True), *columns, box=None)
    for figure in figures:
        numbers = (f"{value:.4g}" for value in figure["metrics"].values())
        table.add_row(figure["label"], *numbers)
    return table
