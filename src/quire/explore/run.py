"""`search`: propose plans within the limits, run them, keep what they give."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import optuna
from optuna.samplers import BaseSampler

from quire.errors import StudyError, TaskError
from quire.explore.clock import Clock
from quire.explore.guided import GuidedProposer
from quire.explore.limits import Terrain
from quire.explore.objectives import Objectives
from quire.explore.program import Program
from quire.explore.progress import SearchProgress
from quire.explore.records import (
    ATTRIBUTE,
    MODEL,
    PREPARATION,
    PROGRAM,
    SENSITIVITIES,
    Plans,
    check_same,
    create_study,
    find_study,
    keep,
    read_trials,
    to_record,
    to_stored,
)
from quire.explore.refine import BUDGETS, MoveProposer
from quire.explore.relaxed import relaxed
from quire.explore.sampling import Proposal, Proposer, make_proposer
from quire.explore.sensitivity import Sensitivities, measure
from quire.explore.size import Size
from quire.explore.space import FormatLists, Genome, build_space
from quire.explore.storage import optuna_quiet
from quire.explore.study import Study
from quire.explore.task import Task
from quire.explore.trial import BASELINE, UNIFORM, Trial
from quire.explore.workbench import Costs, Workbench


def search(
    task: Task,
    formats: FormatLists,
    objectives: Mapping[str, str],
    *,
    limits: Mapping[str, float | str] | None = None,
    sites: Sequence[str] | None = None,
    name: str = "search",
    trials: int = 200,
    workers: int = 1,
    storage: str = "study.journal",
    sampler: str | BaseSampler = "guided",
    start: str = "uniform",
    sensitivities: Sensitivities | None = None,
    seed: int = 0,
    qat_epochs: int = 0,
    costs: Costs | None = None,
    progress: bool = True,
    on_trial: Callable[[Trial], object] | None = None,
) -> Study:
    """Find plans that are best by the objectives and within the limits; resumes a study by name.

    formats: format patterns (`quire.explore.patterns`) for every site searched, or
        {site pattern: format patterns}, where the last match wins.
    objectives: {metric: "max" or "min"}, the most important first. Metrics are what the task's
        `evaluate` returns, and the costs bits, weight_bits, activation_bits, memory, bitops.
    limits: {metric: bound}: a number is a lower bound for a metric that is maximised, an upper one
        for a cost and what is minimised; for any other metric write ">= 0.9" or "<= 0.1". A plan
        that breaks a limit on a cost is never run.
    sites: fnmatch patterns of site names; None: the operands of products and convolutions, or what
        the keys of `formats` select.
    trials: how many trials the study has in the end; the fp32 baseline (trial 0), the uniform
        plans that meet the limits (the next ones) and failed trials are counted.
    storage: a file for Optuna's journal, or the URL of another Optuna storage.
    sampler: "guided" (`quire.explore.guided`), "program" (`quire.explore.refine`), "tpe", "nsga2",
        "random", "grid", a class name of `optuna.samplers`, or an Optuna sampler.
    start: "front": after the uniform plans those of the integer program, 20 within the limits where
        an objective is a cost, else one, and the sampler goes on from there; "program" always does.
    sensitivities: what `quire.sensitivity` gave for this task, which the program and "program" go
        by; None: they are measured on the calibration data, choices that are dominated left out.
    qat_epochs: epochs that the task's `train` gives each plan before it is evaluated; the trained
        weights are not kept: train `quantize(graph, study.best())` again.
    costs: called with the captured graph, gives a function from a plan to more costs by name, such
        as `quire.software.device_costs("NVIDIA H200")`.
    on_trial: called with each trial after it has been stored.

    A trial whose `evaluate` raises, or returns what is no finite number, fails with its message,
    and the search goes on. Ctrl-C ends the search with the trials that are finished. Raises
    StudyError for limits that no plan meets, an unknown metric or sampler, a stored study that
    differs, and an fp32 model that cannot be evaluated. It ends early where no new plan within the
    limits is found.
    """
    _check_arguments(task, objectives, limits)
    if start not in STARTS:
        raise StudyError(f"start={start!r}: give one of {', '.join(STARTS)}")
    _check_integers(trials=trials, workers=workers, seed=seed, qat_epochs=qat_epochs)
    if workers != 1:
        raise StudyError(f"workers={workers}: this release runs one trial at a time (workers=1)")
    if qat_epochs and task.train is None:
        raise TaskError(f"qat_epochs={qat_epochs}, but the task has no train(model, epochs)")
    goal = Objectives(dict(objectives), dict(limits or {}))
    clock = Clock()
    bench = Workbench(task, qat_epochs, clock, costs)
    space = build_space(bench.sites.values(), formats, sites, bench.fit)
    terrain = Terrain(space, goal, bench.costs)
    with optuna_quiet():
        proposer = _proposer(sampler, bench, terrain, seed)
        stored = _open(name, storage, bench, terrain)
        front: list[Genome] = []
        if start == "front" or isinstance(proposer, MoveProposer):
            by = terrain.named_costs
            try:
                found = sensitivities or measure(bench, terrain.tables, storage, "kl", by, progress)
            except KeyboardInterrupt:
                return Study.from_stored(stored, interrupted=True)
            front = _front(found, proposer, terrain, stored)
        run = Run(bench, terrain, proposer, stored, clock, front)
        clock.seconds.clear()  # what was spent before the first trial is no trial's
        interrupted = _show(run, stored, trials, storage, progress, on_trial)
        return Study.from_stored(stored, clock.seconds, interrupted)


def _check_arguments(task: object, objectives: object, limits: object) -> None:
    if not isinstance(task, Task):
        raise StudyError(f"task is {task!r}: give a quire.Task, or Task.resolve('module:function')")
    if not isinstance(objectives, Mapping):
        raise StudyError(f'objectives are {objectives!r}: write {{"accuracy": "max", ...}}')
    if not isinstance(limits, Mapping | None):
        raise StudyError(f'limits are {limits!r}: write {{"bits": 4.0, "accuracy": ">= 0.9"}}')


STARTS = ("uniform", "front")
"""Which plans are tried first."""

LEAST = {"trials": 1, "workers": 1, "seed": 0, "qat_epochs": 0}
"""The least value of each number that `search` takes."""


def _check_integers(**given: object) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < LEAST[name]:
            raise StudyError(f"{name}={value!r}: give an integer from {LEAST[name]} on")


def _show(
    run: "Run",
    stored: optuna.Study,
    trials: int,
    storage: str,
    progress: bool,
    on_trial: Callable[[Trial], object] | None,
) -> bool:
    """Run the trials with a line of progress, which says why they ended; whether Ctrl-C did."""
    name = stored.study_name
    with SearchProgress(name, run.earlier, trials, run.objectives, progress) as line:
        interrupted = _watch(run.trials(trials), line, on_trial)
        if interrupted:
            kept = len(stored.get_trials(deepcopy=False))  # the last may not be counted yet
            line.say(
                f"Stopped after {kept} of {trials} trials, which are kept in {storage}: "
                f"the same search with name={name!r} goes on from there."
            )
        elif progress and run.count < trials:
            line.say(f"Ended after {run.count} of {trials} trials: no other plan was found.")
    return interrupted


def _watch(
    trials: Iterator[Trial], line: SearchProgress, on_trial: Callable[[Trial], object] | None
) -> bool:
    """Run the trials and show each; whether Ctrl-C ended them."""
    try:
        for trial in trials:
            line.show(trial)
            if on_trial is not None:
                on_trial(trial)
    except KeyboardInterrupt:
        return True
    return False


class Run:
    """A search at work on a stored study, whose trials it takes over first."""

    def __init__(
        self,
        bench: Workbench,
        terrain: Terrain,
        proposer: Proposer,
        stored: optuna.Study,
        clock: Clock,
        front: Sequence[Genome] = (),
    ) -> None:
        self._bench, self._terrain, self._proposer = bench, terrain, proposer
        self._front = front
        self._stored, self._clock = stored, clock
        self._plans = Plans(stored.user_attrs[ATTRIBUTE])
        self.count = 0
        records = read_trials(stored)
        self.earlier = [trial for trial, _ in records]
        for trial, record in records:
            space, formats = terrain.space, trial.formats
            params = space.params(space.genome_of(formats)) if formats else {}
            self._take(trial, to_record(trial, terrain, params, record.system_attrs))

    @property
    def objectives(self) -> Objectives:
        """What the search wants."""
        return self._terrain.objectives

    def trials(self, total: int) -> Iterator[Trial]:
        """Run trials until the study has `total`: the uniform plans, the front, then proposals."""
        space = self._terrain.space
        given = [*space.uniform().items(), *(("", genome) for genome in self._front)]
        for label, genome in given:
            if self.count >= total:
                return
            if not self._terrain.is_known(genome) and self._terrain.admits(genome):
                yield self._try(Proposal(genome, space.params(genome)), label)
        while self.count < total:
            with self._clock("sampler"):
                proposal = self._proposer.propose()
            if proposal is None:
                return
            yield self._try(proposal, "")

    def _try(self, proposal: Proposal, label: str) -> Trial:
        formats = self._terrain.space.formats(proposal.genome)
        wanted = self._terrain.objectives.names
        label = UNIFORM + label if label else ""
        trial = self._bench.trial(self.count, formats, label, self._bench.measure(formats), wanted)
        goal, attributes = self._terrain.objectives, proposal.attributes
        with self._clock("storage"):
            self._stored.add_trial(to_stored(trial, goal, self._plans, attributes))
        self._take(trial, to_record(trial, self._terrain, proposal.params, attributes))
        return trial

    def _take(self, trial: Trial, record: optuna.trial.FrozenTrial) -> None:
        self.count += 1
        self._terrain.remember(trial.formats)
        with self._clock("sampler"):
            self._proposer.learn(record)


def _proposer(
    sampler: str | BaseSampler, bench: Workbench, terrain: Terrain, seed: int
) -> Proposer:
    if sampler == "program":
        return MoveProposer(terrain, seed)
    if sampler == "guided":
        return GuidedProposer(terrain, bench.noise(terrain.space), seed)
    return make_proposer(sampler, terrain, seed)


def _front(
    found: Sensitivities, proposer: Proposer, terrain: Terrain, stored: optuna.Study
) -> list[Genome]:
    """The plans of the integer program within the limits; its sampler gets the sensitivities."""
    values, size, goal = found.matrix(terrain.space), Size(terrain), terrain.objectives
    stored.set_user_attr(PREPARATION, found.evaluations)
    if isinstance(proposer, MoveProposer):
        proposer.follow(values)
    program = Program(terrain.tables, values)
    costs = goal.bounds.keys() & set(terrain.cost_names) - set(goal.lower)
    limits = {metric: goal.bounds[metric] for metric in sorted(costs)}
    keep(stored, {SENSITIVITIES: found.to_json(), PROGRAM: relaxed(program, limits)})
    others = {metric: bound for metric, bound in limits.items() if metric != size.metric}
    return program.front(size.metric, size.budgets(BUDGETS), others)


def _open(name: str, storage: str, bench: Workbench, terrain: Terrain) -> optuna.Study:
    """The stored study of that name, or a new one that has the baseline as its first trial."""
    about = {**bench.describe(), **terrain.describe()}
    stored = find_study(name, storage)
    if stored is not None:
        check_same(stored, about)
        keep(stored, {MODEL: bench.picture(terrain.space)})
        return stored
    baseline = bench.trial(0, {}, BASELINE, bench.measure({}))
    if baseline.error:
        raise StudyError(
            f"the fp32 model cannot be evaluated: {baseline.error}"
        ) from bench.last_exception
    known = {*baseline.metrics, *terrain.cost_names}
    terrain.objectives.check_metrics(known, terrain.cost_names)
    stored = create_study(name, storage, terrain.objectives, about)
    keep(stored, {MODEL: bench.picture(terrain.space)})
    stored.add_trial(to_stored(baseline, terrain.objectives, Plans(about), {}))
    return stored
