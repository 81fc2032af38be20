"""`sensitivity`: how much each format at each site alone changes the outputs of the model.

A sensitivity is the divergence of the outputs on the calibration data where one group of sites has
one format and all others are fp32 (ZeroQ, Cai et al. 2020). Each is one forward pass and depends on
no other, so that the order of measurement, and how many measure, do not change it. First-order
scores (`quire.explore.fisher`) of the same unit cost one backward pass for all; they tell which
choices are not worth a forward pass.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from quire.errors import StudyError
from quire.explore.clock import Clock
from quire.explore.cost_tables import CostTables, padded
from quire.explore.divergence import ERROR, KL, is_logits
from quire.explore.fisher import EVALUATIONS, FisherScores
from quire.explore.measurements import Measurements, Values
from quire.explore.program import Program, undominated
from quire.explore.progress import StageProgress
from quire.explore.sensitivity_table import sensitivity_table
from quire.explore.space import FormatLists, Genome, Space, build_space
from quire.explore.storage import database_errors
from quire.explore.task import Task
from quire.explore.threads import one_thread
from quire.explore.workbench import Workbench
from quire.explore.workers import Alone, Workers, answers, hire
from quire.precision import Plan

KINDS = ("kl", "error", "fisher")
DIVERGENCES = {divergence.name: divergence for divergence in (KL, ERROR)}
PRUNED_BY = ("bits",)


@dataclass(frozen=True)
class Sensitivities:
    """What each format at each site costs the outputs of the model, alone.

    kind: "kl" or "error", isolated changes, or "fisher", first-order scores.
    loss: what the values are, in words.
    values: {site: {format string: value}}; tied sites under the first one's name. Choices that
        were pruned are not there; one whose outputs are not finite is infinite.
    evaluations: forward passes over the calibration data that the values take, a backward pass
        counted as two.
    """

    kind: str
    loss: str
    values: Mapping[str, Mapping[str, float]]
    evaluations: int
    tables: CostTables = field(repr=False, compare=False)

    @property
    def space(self) -> Space:
        """The groups of sites and their candidates."""
        return self.tables.space

    def program(self) -> Program:
        """The integer program that finds plans by these values; it takes any limits on costs."""
        return Program(self.tables, self.matrix(self.space))

    def matrix(self, space: Space) -> list[list[float]]:
        """For each group of a space, the value of each candidate; infinite where there is none."""
        ties = {group.name: group.sites[0].tie for group in self.space.groups}
        return matrix(space, {ties[name]: dict(row) for name, row in self.values.items()})

    def plan(self, **limits: float) -> Plan:
        """The plan with the least sum of values within limits, such as `bits=4.0, memory=20000`.

        Raises StudyError where no plan meets them; it names the limit and the nearest value.
        """
        return self._plan(self.program().solve(limits))

    def front(self, cost: str, bounds: Sequence[float], **limits: float) -> list[Plan]:
        """The plans for several bounds of a cost, the smallest first, each once.

        Bounds that no plan meets are left out.
        """
        return [self._plan(genome) for genome in self.program().front(cost, bounds, limits)]

    def rows(self) -> list[tuple[str, str, float, float]]:
        """(site, format, stored bits a value, sensitivity) of all values, in graph order."""
        return [
            (group.name, c.format, c.bits, self.values[group.name][c.format])
            for group in self.space.groups
            for c in group.candidates
            if c.format in self.values[group.name]
        ]

    def to_json(self) -> dict[str, Any]:
        """{"kind", "loss", "values"} as plain data; an infinite value is None."""
        values = {
            site: {format: value if math.isfinite(value) else None for format, value in row.items()}
            for site, row in self.values.items()
        }
        return {"kind": self.kind, "loss": self.loss, "values": values}

    def save_csv(self, path: str | Path) -> None:
        """Write `rows` with a head line."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["site", "format", "bits", self.kind])
            table.writerows(self.rows())

    def __rich__(self) -> Table:
        return sensitivity_table(self)

    def _plan(self, genome: Genome) -> Plan:
        return Plan(self.space.formats(genome))


def sensitivity(
    task: Task,
    formats: FormatLists,
    *,
    sites: Sequence[str] | None = None,
    storage: str | os.PathLike[str] = "study.journal",
    kind: str = "kl",
    prune: Sequence[str] = PRUNED_BY,
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = True,
) -> Sensitivities:
    """Measure what each format costs at each site alone, on the task's calibration data.

    formats, sites: as `search` takes them.
    storage: where values are kept; the same call, and one with other formats, goes on from there.
    kind: "kl": KL(fp32 || quantized) of the outputs as logits, in nats a row (an image, a token);
        for a model whose output is not one tensor of two dimensions or more, and no mapping with
        "logits", "error" instead, which `Sensitivities.kind` tells. "error": the error energy of
        all outputs, relative to theirs, as suits regression. "fisher": first-order scores of the
        same unit, from one backward pass.
    prune: costs such as "bits": a format that has no less of each of them and no lower score than
        another one at the same site is not measured. (): all are measured.

    workers, ray: as `search` takes them.

    Values do not depend on each other, and each is measured on one torch thread: on one kind of
    machine they are the same in any order, for any number of workers. Ctrl-C keeps those that are
    finished. Raises StudyError for an unknown kind or cost, TaskError where the calibration data
    does not run through the model or gives no floating-point output.
    """
    if kind not in KINDS:
        raise StudyError(f"kind={kind!r}: give one of {', '.join(KINDS)}")
    clock, storage = Clock(), os.fspath(storage)
    bench = Workbench(task, 0, clock)
    space = build_space(bench.sites.values(), formats, sites, bench.fit)
    tables = CostTables(space, bench.costs)
    with hire(bench, clock, workers, ray) as hired, database_errors(storage):
        return measure(bench, tables, storage, kind, prune, progress, hired)


def measure(
    bench: Workbench,
    tables: CostTables,
    storage: str,
    kind: str = "kl",
    prune: Sequence[str] = PRUNED_BY,
    progress: bool = True,
    workers: Workers | None = None,
    most: int | None = None,
) -> Sensitivities:
    """`sensitivity` for a model and a space that are there already.

    most: first-order scores stand for isolated changes if more of them would have to be measured.
    """
    space = tables.space
    for cost in prune:
        if cost not in tables.least:
            raise StudyError(f"prune names {cost!r}: give costs, of {', '.join(tables.least)}")
    meter = _Meter(bench, space, kind, storage, progress, workers or Alone(bench))
    choices = [(g, i) for g, group in enumerate(space.groups) for i in range(len(group.candidates))]
    if kind == "fisher" or prune:
        meter.score()
    if kind != "fisher" and prune:
        scores = padded(matrix(space, meter.scores.values), math.inf)
        parts = [table for cost in prune for table in tables.parts(cost)]
        choices = undominated(tables, scores, parts)
        kind = "fisher" if most is not None and len(choices) > most else kind
    if kind != "fisher":
        meter.isolate(choices)
    return Sensitivities(
        kind=kind if kind == "fisher" else meter.divergence.name,
        loss=("first-order score of " if kind == "fisher" else "") + meter.divergence.words,
        values=meter.taken(choices, kind),
        evaluations=meter.evaluations,
        tables=tables,
    )


def matrix(space: Space, values: Values) -> list[list[float]]:
    """For each group of a space, the value of each candidate; infinite where there is none."""
    return [
        [values.get(group.sites[0].tie, {}).get(c.format, math.inf) for c in group.candidates]
        for group in space.groups
    ]


class _Meter:
    """Measures what the storage does not hold yet.

    divergence: of the outputs. evaluations: what the values that were asked for take.
    isolated, scores: {tie group: {format: value}} of either kind.
    """

    def __init__(
        self,
        bench: Workbench,
        space: Space,
        kind: str,
        storage: str,
        progress: bool,
        workers: Workers,
    ) -> None:
        self._bench, self._space, self._progress = bench, space, progress
        self._workers = workers
        self.evaluations = 1
        logits = all(map(is_logits, bench.reference))
        self.divergence = KL if logits and kind != "error" else ERROR
        name, digest = self.divergence.name, bench.digest()
        self.isolated = Measurements(storage, name, digest)
        self.scores = Measurements(storage, f"fisher {name}", digest)

    def isolate(self, choices: Sequence[tuple[int, int]]) -> None:
        """Run the model with one choice, for each of `choices`, (group, candidate)."""
        if not choices:
            return
        self.evaluations += len(choices)
        name = self.divergence.name
        wanted = [(self._space.groups[g], self._space.groups[g].candidates[i]) for g, i in choices]
        known = self.isolated.values
        missing = [(g, c) for g, c in wanted if c.format not in known.get(g.sites[0].tie, {})]
        missing = list({(g.sites[0].tie, c.format): (g, c) for g, c in missing}.values())
        jobs = [Isolate({s.name: c.format for s in g.sites}, name) for g, c in missing]
        with StageProgress("sensitivities", len(wanted), self._progress) as line:
            line.advance(len(wanted) - len(missing))
            for number, value in answers(self._workers, jobs):
                group, candidate = missing[number]
                self.isolated.add({group.sites[0].tie: {candidate.format: value}})
                line.advance()

    def score(self) -> None:
        """Score all formats of the space in one backward pass; isolate what has no gradient."""
        self.evaluations += EVALUATIONS
        missing = self._unscored()
        if missing:
            self.scores.add(self._score(missing))
        rest = self._unscored()
        self.isolate(
            [
                (g, i)
                for g, group in enumerate(self._space.groups)
                for i, candidate in enumerate(group.candidates)
                if candidate.format in rest.get(group.sites[0].tie, ())
            ]
        )
        for tie, formats in rest.items():
            found = {format: self.isolated.values[tie][format] for format in formats}
            self.scores.values.setdefault(tie, {}).update(found)

    def taken(self, choices: Sequence[tuple[int, int]], kind: str) -> Values:
        """{site: {format: value}} of the choices."""
        values = self.scores.values if kind == "fisher" else self.isolated.values
        found: Values = {}
        for g, i in choices:
            group = self._space.groups[g]
            format = group.candidates[i].format
            found.setdefault(group.name, {})[format] = values[group.sites[0].tie][format]
        return found

    def _unscored(self) -> dict[str, list[str]]:
        rows = ((group.sites[0].tie, group.candidates) for group in self._space.groups)
        known = self.scores.values
        found = {
            tie: [c.format for c in cs if c.format not in known.get(tie, {})] for tie, cs in rows
        }
        return {tie: list(dict.fromkeys(formats)) for tie, formats in found.items() if formats}

    def _score(self, missing: Mapping[str, Sequence[str]]) -> Values:
        graph, reference = self._bench.use({}), self._bench.reference
        bench = self._bench
        scores = FisherScores(
            graph, self.divergence, missing, bench.relative_error, bench.corrected
        )
        with one_thread():
            for args, kwargs in self._bench.batches:
                scores.add(partial(graph, *args, **kwargs))
        weight = math.fsum(self.divergence.total(r, r)[1] for r in reference)
        found: Values = {}
        for tie, formats in missing.items():
            for format in formats:
                value = scores.of(tie, format, weight)
                if value is not None:
                    found.setdefault(tie, {})[format] = value
        return found


@dataclass(frozen=True)
class Isolate:
    """The job of measuring one choice: {site: format string} of one group, all others fp32."""

    formats: Mapping[str, str]
    divergence: str

    def __call__(self, bench: Workbench) -> float:
        divergence = DIVERGENCES[self.divergence]
        pairs = zip(bench.reference, bench.outputs(self.formats), strict=True)
        with one_thread():
            return divergence.mean([divergence.total(r, q) for r, q in pairs])
