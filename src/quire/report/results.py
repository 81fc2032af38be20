"""The results of a study as plain data: the record that a page draws, and its JSON file.

`study.json` is one object. NaN and infinity are not JSON: such a metric is left out.

```
{
  "quire_study": 1,                             version of this layout
  "name": "digits",
  "objectives": {"loss": "min", "bits": "min"}, metric -> "min" | "max"; the page draws
                                                the first upwards and the second across
  "limits": {"bits": 4.0},                      optional: metric -> bound
  "lower": [],                                  optional: the limits that are lower bounds; else
                                                those on objectives that are maximised
  "sites": [                                    in graph order
    {"name": "fc1.weight", "op": "linear", "role": "weight",
     "shape": [64, 32], "elements": 2048, "macs": 2048, "tie": "fc1.weight",
     "bits": {"mxint4": 4.25}}],                optional: stored bits a value, by format
  "trials": [                                   in the order of their numbers
    {"number": 0, "label": "uniform mxint4", "family": "mxint", "state": "complete",
     "metrics": {"loss": 0.1, "bits": 4.25}, "plan": {"fc1.weight": "mxint4"},
     "seconds": 0.1, "error": ""}],
  "front": [0, 7],                              optional: numbers of Pareto-optimal trials
  "chosen": 7,                                  optional: the trial that was taken
  "figures": [                                  optional: rows of the closing table
    {"label": "fp32", "split": "test", "metrics": {"accuracy": 0.967, "bits": 32.0}}],
  "tensors": [                                  optional: distributions to draw
    {"site": "fc1.weight", "format": "mxint4", "unit": "block scale",
     "values": [0.1, -1.2], "grid": [-1.75, -1.5, 1.75]}],
  "sensitivities": {                            optional: what each format at each site costs alone
    "kind": "kl", "loss": "KL ... in nats a row",
    "values": {"fc1.weight": {"mxint4": 0.01, "mxint2": null}}},
  "program": {                                  optional: what the limits cost, as predicted
    "loss": 0.03, "relaxed": {"bits": {"bound": 4.2, "loss": 0.02}}},
  "model": {                                    optional: a drawing of the model
    "boxes": [{"name": "fc1", "op": "linear", "sites": ["fc1.input", "fc1.weight"]}],
    "edges": [[0, 1, "relu"]]},
  "layers": {"fc1": {"LUT": 120, "DSP": 2}}     optional: what layers of the chosen plan cost
}
```

* `state` is "complete", "failed" (`error` says why) or "pruned" (it broke a limit and was not run).
* `label` names plans that have a name: "fp32" is the model as it came, "uniform mxint4" a uniform
  plan, and "" any other.
* `family` groups trials into curves of best-so-far against trials: "mxint", "bfp", "mixed", ...
* `figures` are measured once, at the end, for the fp32 model and the chosen plan.
* `tensors`: `values` is a sample (a few thousand) of the elements, each divided by the scale of its
  block where the format has one (`unit` "block scale"), else as they are (`unit` ""); `grid` lists
  the values of the format's elements in that unit, ascending.
* `sensitivities`: tied sites under the name of the first; a choice that was not measured is not
  there, one whose outputs are not finite is null. `kind` is "kl", "error" or "fisher".
* `program`: the least sum of sensitivities within the limits on costs, and with one of them wider.
* `model`: boxes in the order of the data, products with their operands and what joins values; edges
  [from, to, words] by the places of the boxes, the words being what lies between.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from quire.errors import StudyError
from quire.report.reasons import Model, Program, Sensitivities

VERSION = 1
DIRECTIONS = ("min", "max")
STATES = ("complete", "failed", "pruned")

T = TypeVar("T")


@dataclass(frozen=True)
class SiteRecord:
    """One site of the searched graph, as the sites x formats map and the plan tables show it."""

    name: str
    op: str = ""
    role: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    macs: int = 0
    tie: str = ""
    bits: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class TrialRecord:
    """One plan that was tried: its formats by site, its metrics, how it ended."""

    number: int
    plan: Mapping[str, str]
    metrics: Mapping[str, float]
    label: str = ""
    family: str = ""
    state: str = "complete"
    seconds: float = 0.0
    error: str = ""

    @property
    def baseline(self) -> bool:
        """Whether this is the model as it came."""
        return self.label == "fp32"

    @property
    def uniform(self) -> bool:
        """Whether this is the uniform plan of one format."""
        return self.label.startswith("uniform ")


@dataclass(frozen=True)
class Figure:
    """One row of the closing table: metrics of a model on a named split of the data."""

    label: str
    split: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TensorRecord:
    """A sample of one tensor's elements, and the grid of its format in the same unit."""

    site: str
    format: str
    values: tuple[float, ...]
    grid: tuple[float, ...]
    unit: str = ""


@dataclass(frozen=True)
class StudyResults:
    """Everything that a page shows of one study; the layout is this module's docstring."""

    name: str
    objectives: Mapping[str, str]
    sites: tuple[SiteRecord, ...]
    trials: tuple[TrialRecord, ...]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    lower: tuple[str, ...] | None = None
    front: tuple[int, ...] = ()
    chosen: int | None = None
    figures: tuple[Figure, ...] = ()
    tensors: tuple[TensorRecord, ...] = ()
    sensitivities: Sensitivities | None = None
    program: Program | None = None
    model: Model | None = None
    layers: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )

    def __post_init__(self) -> None:
        _check_objectives(self.objectives)
        numbers = {trial.number for trial in self.trials}
        chosen = [] if self.chosen is None else [self.chosen]
        for number in [*self.front, *chosen]:
            if number not in numbers:
                raise StudyError(
                    f"study {self.name!r}: 'front' and 'chosen' name trial {number}, "
                    f"which is not among its {len(numbers)} trials; write the study again"
                )

    def is_lower(self, metric: str) -> bool:
        """Whether the limit on a metric is a lower bound."""
        if self.lower is not None:
            return metric in self.lower
        return self.objectives.get(metric) == "max"

    def trial(self, number: int) -> TrialRecord:
        """The trial of that number; StudyError where there is none."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise StudyError(f"study {self.name!r} has no trial {number}; it has {len(self.trials)}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StudyResults":
        """The record of a decoded `study.json`; StudyError names what is missing or wrong."""
        if "quire_study" not in data:
            raise StudyError(
                "no results of a search: the key 'quire_study' is missing; give the file that "
                "`quire search --results` or `Study.save` wrote"
            )
        if data["quire_study"] != VERSION:
            raise StudyError(
                f"'quire_study' is {data['quire_study']!r}; this release reads {VERSION}: "
                "write the file again, or install the release that wrote it"
            )
        try:
            return cls(
                name=str(data["name"]),
                objectives=dict(data["objectives"]),
                limits=_metrics(data.get("limits", {})),
                lower=tuple(data["lower"]) if "lower" in data else None,
                sites=tuple(_site(row) for row in data["sites"]),
                trials=tuple(_trial(row) for row in data["trials"]),
                front=tuple(int(number) for number in data.get("front", ())),
                chosen=cast("int | None", data.get("chosen")),
                figures=tuple(_figure(row) for row in data.get("figures", ())),
                tensors=tuple(_tensor(row) for row in data.get("tensors", ())),
                sensitivities=_optional(Sensitivities.of, data.get("sensitivities")),
                program=_optional(Program.of, data.get("program")),
                model=_optional(Model.of, data.get("model")),
                layers={str(n): _metrics(row) for n, row in data.get("layers", {}).items()},
            )
        except KeyError as error:
            raise StudyError(
                f"the results of study {data.get('name', '?')!r} lack the key {error}; "
                "the layout is the docstring of quire.report.results"
            ) from None
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, StudyError):
                raise
            raise StudyError(
                f"the results of study {data.get('name', '?')!r} hold what they cannot: {error}; "
                "the layout is the docstring of quire.report.results"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> "StudyResults":
        """Read `study.json`; StudyError where it is not JSON or not of this layout."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise StudyError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise StudyError(
                f"{path} is not JSON ({error}); a study file is one JSON object"
            ) from None
        if not isinstance(data, dict):
            raise StudyError(f"{path} holds a {type(data).__name__}; a study file is one object")
        try:
            return cls.from_json(cast("dict[str, Any]", data))
        except StudyError as error:
            raise StudyError(f"{path}: {error}") from None


def _optional(read: Callable[[Mapping[str, Any]], T], row: Mapping[str, Any] | None) -> T | None:
    return None if row is None else read(row)


def _check_objectives(objectives: Mapping[str, str]) -> None:
    if len(objectives) == 0:
        raise StudyError("'objectives' is empty; name at least one metric, as {'loss': 'min'}")
    for metric, direction in objectives.items():
        if direction not in DIRECTIONS:
            raise StudyError(
                f"objective {metric!r} is {direction!r}; legal: {', '.join(DIRECTIONS)}"
            )


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Finite metrics only: an absent, NaN or infinite one cannot be drawn."""
    finite = {key: float(value) for key, value in row.items() if value is not None}
    return {key: value for key, value in finite.items() if math.isfinite(value)}


def _site(row: Mapping[str, Any]) -> SiteRecord:
    return SiteRecord(
        name=str(row["name"]),
        op=str(row.get("op", "")),
        role=str(row.get("role", "")),
        shape=tuple(int(size) for size in row.get("shape", ())),
        elements=int(row.get("elements", 0)),
        macs=int(row.get("macs", 0)),
        tie=str(row.get("tie", row["name"])),
        bits=_metrics(row.get("bits", {})),
    )


def _trial(row: Mapping[str, Any]) -> TrialRecord:
    state = str(row.get("state", "complete"))
    if state not in STATES:
        raise StudyError(f"trial {row['number']}: state {state!r}; legal: {', '.join(STATES)}")
    return TrialRecord(
        number=int(row["number"]),
        plan={str(site): str(text) for site, text in row["plan"].items()},
        metrics=_metrics(row["metrics"]),
        label=str(row.get("label", "")),
        family=str(row.get("family", "")),
        state=state,
        seconds=float(row.get("seconds", 0.0)),
        error=str(row.get("error", "")),
    )


def _figure(row: Mapping[str, Any]) -> Figure:
    return Figure(str(row["label"]), str(row.get("split", "")), _metrics(row["metrics"]))


def _tensor(row: Mapping[str, Any]) -> TensorRecord:
    values, grid = (tuple(float(x) for x in row[key]) for key in ("values", "grid"))
    return TensorRecord(
        str(row["site"]), str(row["format"]), values, grid, str(row.get("unit", ""))
    )
