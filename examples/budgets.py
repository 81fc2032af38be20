"""The best plans of several sizes, from the same sensitivities, and trained through their casts."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from comparison import Figure, Measure, figure, mixed
from torch import nn

import quire
from quire.explore import Study
from quire.explore.space import FormatLists

MOST = 6.5  # average bits of the front, on which most uniform plans are


def search_budgets(
    found: quire.Task, formats: FormatLists, metric: str, bounds: Sequence[float], trials: int,
    folder: str, kind: str = "kl",
) -> Study:  # fmt: skip
    """The trials of a search for the front up to MOST bits, and of one for each bound alone.

    metric: what is to be small. trials: of each search. kind: of the sensitivities.
    """
    storage = f"{folder}/study.journal"
    measured = quire.sensitivity(found, formats, storage=storage, kind=kind)
    goals = {MOST: {metric: "min", "bits": "min"}, **{bits: {metric: "min"} for bits in bounds}}
    studies = [
        quire.search(
            found,
            formats,
            goal,
            limits={"bits": bits},
            trials=trials,
            name=mixed(bits),
            storage=storage,
            sampler="program",
            sensitivities=measured,
        )
        for bits, goal in goals.items()
    ]
    return replace(studies[0], trials=tuple(t for study in studies for t in study.trials))


def train_best(
    study: Study, found: quire.Task, bounds: Sequence[float],
    train: Callable[[nn.Module], object], test: Measure,
) -> list[Figure]:  # fmt: skip
    """The fp32 model and the best plan of each size, trained as long, on a copy of the model.

    train: trains in place. test: gives metrics on data that neither search nor training has seen.
    """
    goal = next(iter(study.objectives.directions))
    best = {mixed(bits): study.best_trial(max_bits=bits) for bits in bounds}
    figures: list[Figure] = []
    for label, trial in {study.baseline.label: study.baseline, **best}.items():
        graph = quire.capture(deepcopy(found.model), found.example_inputs)
        q = quire.quantize(*quire.correct(graph, trial.plan, found.calibration))
        train(q.train())
        with torch.no_grad():
            value = found.score(q.eval())[goal]
        bits = trial.metrics["bits"]
        figures.append(figure(f"{label}, trained", study, bits, value, test, q))
    return figures
