"""The results of a search: trials, the Pareto front, the best plan under bounds, files."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import optuna

from quire.errors import StudyError
from quire.explore.objectives import Objectives, pareto_front
from quire.explore.records import (
    ATTRIBUTE,
    MODEL,
    PLANNED,
    PREPARATION,
    PROGRAM,
    SENSITIVITIES,
    find_study,
    read_trials,
)
from quire.explore.sensitivity import Sensitivities
from quire.explore.storage import database_errors, shown
from quire.explore.trial import Trial
from quire.precision import Plan


@dataclass(frozen=True)
class Study:
    """A search, finished or not.

    sites: the searched sites as plain data, in graph order.
    timing: seconds that the trials of this call of `search` took: {"sampler": ..., "quire": (plans,
        costs, quantized weights), "evaluate": ..., "storage": ...}, summed over its workers.
    interrupted: whether Ctrl-C ended it.
    preparation: evaluations that its sensitivities took (`Sensitivities.evaluations`).
    planned: how many trials it is to have, as the last search wanted; 0 where it did not say.
    sensitivities: those that it went by, as `Sensitivities.to_json` gives them; None where it went
        by none.
    model: the drawing of its model (`quire.explore.picture`).
    program: what its limits cost by the integer program (`quire.explore.relaxed`).
    """

    name: str
    objectives: Objectives
    sites: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    timing: Mapping[str, float]
    interrupted: bool = False
    preparation: int = 0
    planned: int = 0
    sensitivities: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None
    program: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, name: str, storage: str | os.PathLike[str] = "study.journal") -> "Study":
        """The study of that name as it is stored; StudyError where there is none."""
        storage = os.fspath(storage)
        if "://" not in storage and not Path(storage).exists():
            raise StudyError(f"there is no study file {storage}")
        with database_errors(storage):
            stored = find_study(name, storage)
            if stored is None:
                raise StudyError(f"there is no study {name!r} in {shown(storage)}")
            return cls.from_stored(stored)

    @classmethod
    def from_stored(
        cls,
        stored: optuna.Study,
        timing: Mapping[str, float] | None = None,
        interrupted: bool = False,
    ) -> "Study":
        """The study that an Optuna study keeps."""
        kept = stored.user_attrs
        about: dict[str, Any] = kept[ATTRIBUTE]
        return cls(
            name=stored.study_name,
            objectives=Objectives(about["objectives"], about["limits"]),
            sites=tuple(_with_bits(about, kept.get(MODEL, {}).get("bits", {}))),
            trials=tuple(trial for trial, _ in read_trials(stored)),
            timing=timing or {},
            interrupted=interrupted,
            preparation=kept.get(PREPARATION, 0),
            planned=kept.get(PLANNED, 0),
            sensitivities=kept.get(SENSITIVITIES),
            model=kept.get(MODEL),
            program=kept.get(PROGRAM),
        )

    def __repr__(self) -> str:
        trials, front = len(self.trials), len(self.pareto())
        best = f", best trial {self.best_trial().number}" if front else ""
        return f"Study({self.name!r}: {trials} trials, {front} on the front{best})"

    @property
    def baseline(self) -> Trial:
        """The fp32 model."""
        return self.trials[0]

    @property
    def feasible(self) -> list[Trial]:
        """The complete trials that meet every limit, the baseline left out."""
        return [
            trial
            for trial in self.trials[1:]
            if trial.state == "complete" and self.objectives.admits(trial.metrics)
        ]

    @property
    def failed(self) -> list[Trial]:
        """The trials whose `error` says why they gave no metrics."""
        return [trial for trial in self.trials if trial.state == "failed"]

    def shortfall(self) -> str:
        """Why no trial is feasible, in words: what failed, and how near the limits others came."""
        run = self.trials[1:]
        complete = [trial for trial in run if trial.state == "complete"]
        reasons = [
            self.failures(),
            *(self._nearest(name, complete) for name in self.objectives.bounds),
        ]
        why = "; ".join(filter(None, reasons)) if run else "only the fp32 model was run"
        return f"no trial of {len(self.trials)} is complete and within the limits: {why}"

    def failures(self) -> str:
        """How many trials failed, and the first one's error, in words; empty where none did."""
        if not self.failed:
            return ""
        first = self.failed[0]
        return f"{len(self.failed)} failed, the first, trial {first.number}, with {first.error}"

    def _nearest(self, metric: str, trials: Sequence[Trial]) -> str:
        """The value nearest to a limit, or beyond it, among trials that give that metric."""
        values = [trial.metrics[metric] for trial in trials if metric in trial.metrics]
        if not values:
            return ""
        lower = metric in self.objectives.lower
        bound = f"{metric} {'>=' if lower else '<='} {self.objectives.bounds[metric]:.6g}"
        return f"the best for {bound} is {(max if lower else min)(values):.6g}"

    def pareto(self) -> list[Trial]:
        """The feasible trials that no other dominates, the best in the first objective first."""
        trials = self.feasible
        return pareto_front(trials, [self.objectives.losses(t.metrics) for t in trials])

    def best_trial(self, **bounds: float) -> Trial:
        """The trial that is best in the first objective, then the second and so on, under bounds.

        bounds: `max_<metric>=` and `min_<metric>=`, such as `max_bits=4`.
        Raises StudyError for a bound on no metric, and where no trial meets the bounds.
        """
        tests = [(*self._bound(name, bound), bound) for name, bound in bounds.items()]
        if not self.feasible:
            raise StudyError(f"study {self.name!r}: {self.shortfall()}")
        fits = [
            trial
            for trial in self.feasible
            if all(
                metric in trial.metrics and sign * trial.metrics[metric] <= sign * b
                for sign, metric, b in tests
            )
        ]
        if not fits:
            asked = ", ".join(f"{name}={bound:g}" for name, bound in bounds.items()) or "no bounds"
            raise StudyError(
                f"study {self.name!r}: none of {len(self.feasible)} feasible trials fits {asked}"
            )
        return min(fits, key=lambda trial: self.objectives.losses(trial.metrics))

    def best(self, **bounds: float) -> Plan:
        """The plan of `best_trial`."""
        return self.best_trial(**bounds).plan

    def results(
        self,
        chosen: Trial | None = None,
        figures: Sequence[Mapping[str, Any]] = (),
        tensors: Sequence[Mapping[str, Any]] = (),
        sensitivities: Sensitivities | None = None,
        layers: Mapping[str, Mapping[str, float]] | None = None,
    ) -> dict[str, Any]:
        """Everything as plain data, in the layout that `quire.report` reads.

        chosen: the trial whose plan was taken; None: the best of the first objective.
        figures: {"label", "split", "metrics"} of what was measured once, such as the test split.
        tensors: what `quire.explore.sample_tensors` gives.
        sensitivities: what `quire.sensitivity` gave; None: those that the search went by, if any.
        layers: {layer: {metric: value}}, what the chosen plan costs beside bits, such as its LUT.
        """
        front = self.pareto()
        taken = chosen or (front[0] if front else None)
        found = sensitivities.to_json() if sensitivities else self.sensitivities
        model = {key: (self.model or {}).get(key, []) for key in ("boxes", "edges")}
        explained = {
            "sensitivities": found,
            "program": self.program,
            "model": model if model["boxes"] else None,
            "layers": {name: dict(row) for name, row in (layers or {}).items()} or None,
        }
        return {
            "quire_study": 1,
            "name": self.name,
            "objectives": dict(self.objectives.directions),
            "limits": dict(self.objectives.bounds),
            "lower": list(self.objectives.lower),
            "sites": [dict(site) for site in self.sites],
            "trials": [_row(trial) for trial in self.trials],
            "front": [trial.number for trial in front],
            "chosen": taken.number if taken else None,
            "figures": [dict(figure) for figure in figures],
            "tensors": [dict(tensor) for tensor in tensors],
            **{key: value for key, value in explained.items() if value},
        }

    def save(self, path: str | Path, **more: Any) -> None:
        """Write `results(**more)` as JSON."""
        text = json.dumps(self.results(**more), indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def save_csv(self, path: str | Path) -> None:
        """Write a table of the trials: number, label, state, metrics, formats by site, error."""
        metrics = sorted({name for trial in self.trials for name in trial.metrics})
        sites = [str(site["name"]) for site in self.sites]
        head = ["number", "label", "family", "state", "seconds", "error", *metrics, *sites]
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, head, restval="")
            table.writeheader()
            for trial in self.trials:
                row = _row(trial)
                table.writerow(row.pop("metrics") | row.pop("plan") | row)

    def _bound(self, name: str, bound: object) -> tuple[int, str]:
        if not isinstance(bound, Real):
            raise StudyError(f"{name}={bound!r}: give a number")
        side, _, metric = name.partition("_")
        signs = {"max": 1, "min": -1}
        metrics = dict.fromkeys(name for trial in self.trials[:2] for name in trial.metrics)
        if side not in signs or metric not in metrics:
            known = ", ".join(metrics)
            raise StudyError(f"{name!r} is no bound: write max_ or min_ and one of {known}")
        return signs[side], metric


def _with_bits(about: Mapping[str, Any], bits: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The sites of a study; those that name a choice have {format: stored bits a value}."""
    for site in about["sites"]:
        name = site["name"]
        own = dict(zip(about["formats"][name], bits[name], strict=True)) if name in bits else {}
        yield {**site, **({"bits": own} if own else {})}


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "label": trial.label,
        "family": trial.family,
        "state": trial.state,
        "seconds": trial.seconds,
        "error": trial.error,
        "metrics": dict(trial.metrics),
        "plan": dict(trial.formats),
    }
