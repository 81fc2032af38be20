"""`search`: propose plans within the limits, run them, keep what they give."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import optuna
from optuna.samplers import BaseSampler

from quire.errors import StudyError, TaskError
from quire.explore.clock import Clock
from quire.explore.driver import Driver, Evaluate, measured
from quire.explore.guided import GuidedProposer
from quire.explore.ledger import Ledger, seat
from quire.explore.limits import Terrain
from quire.explore.objectives import Objectives
from quire.explore.program import Program
from quire.explore.progress import SearchProgress
from quire.explore.records import (
    MODEL,
    PLANNED,
    PREPARATION,
    PROGRAM,
    SENSITIVITIES,
    Plans,
    check_same,
    create_study,
    find_study,
    keep,
    to_stored,
)
from quire.explore.refine import BUDGETS, MoveProposer
from quire.explore.relaxed import relaxed
from quire.explore.sampling import Proposer, make_proposer
from quire.explore.sensitivity import Sensitivities, measure
from quire.explore.size import Size
from quire.explore.space import FormatLists, Genome, build_space
from quire.explore.storage import database_errors, optuna_quiet, shown
from quire.explore.study import Study
from quire.explore.task import Task
from quire.explore.trial import BASELINE, Trial
from quire.explore.workbench import Costs, Workbench
from quire.explore.workers import Workers, hire


def search(
    task: Task,
    formats: FormatLists,
    objectives: Mapping[str, str],
    *,
    limits: Mapping[str, float | str] | None = None,
    sites: Sequence[str] | None = None,
    name: str = "search",
    trials: int = 200,
    workers: int | None = None,
    ray: str | None = None,
    storage: str | os.PathLike[str] = "study.journal",
    join: bool = False,
    sampler: str | BaseSampler = "program",
    start: str = "uniform",
    sensitivities: Sensitivities | None = None,
    seed: int = 0,
    qat_epochs: int = 0,
    qat_best: int | None = None,
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
    workers: how many processes of this machine evaluate plans, one torch thread each; None, as 1:
        this process alone. What the task's functions use is copied to them, once.
    ray: the address of a Ray cluster that evaluates plans ("auto": the one of this machine), one
        GPU a worker where it has any; `workers` is then as many as it has room for by default.
    storage: a file for Optuna's journal; or a URL: sqlite:///FILE, for one search at a time, or
        postgresql+psycopg://USER@HOST/DATABASE, for searches on many machines.
    join: work on the study beside other searches that join it, until it has `trials` trials in all.
    sampler: "program" (`quire.explore.refine`), "guided" (`quire.explore.guided`), "tpe", "nsga2",
        "random", "grid", a class name of `optuna.samplers`, or an Optuna sampler.
    start: "front": after the uniform plans those of the integer program, 20 within the limits where
        an objective is a cost, else one, and the sampler goes on from there; "program" always does.
    sensitivities: what `quire.sensitivity` gave for this task, which the program and "program" go
        by; None: they are measured on the calibration data, choices that are dominated left out, or
        scored to first order where that would take more runs than `trials`.
    qat_epochs: epochs that the task's `train` gives each plan before it is evaluated; the trained
        weights are not kept: train `quantize(graph, study.best())` again.
    qat_best: train only so many plans, the first of the front at the end of the search. Each is
        one trial more, with the label "qat" and the epochs, which `trials` does not count.
    costs: called with the captured graph, gives a function from a plan to more costs by name:
        `quire.hardware.DesignCosts(x, rate=1e6)`, `quire.software.device_costs("NVIDIA H200")`, or
        one of the user's own.
    on_trial: called with each trial of this search after it has been stored.

    A trial whose `evaluate` raises, or returns what is no finite number, fails with its message,
    and the search goes on. A plan whose worker ends is given to another one, three times in all.
    With one worker the trials follow from the seed; with several, from the order in which they end
    too. Ctrl-C ends the search with the trials that are finished. Raises StudyError for limits that
    no plan meets, an unknown metric or sampler, a stored study that differs or that another search
    works on, and an fp32 model that cannot be evaluated. It ends early where no new plan within the
    limits is found.
    """
    _check_arguments(task, objectives, limits)
    _check_calls(costs=costs, on_trial=on_trial)
    _check_sensitivities(sensitivities)
    if not isinstance(ray, str | None):
        raise StudyError(f"ray={ray!r}: give the address of a cluster, 'auto' or 'local', or None")
    storage = os.fspath(storage)
    if start not in STARTS:
        raise StudyError(f"start={start!r}: give one of {', '.join(STARTS)}")
    _check_integers(trials=trials, seed=seed, qat_epochs=qat_epochs)
    _check_given(workers=workers, qat_best=qat_best)
    _check_training(task, qat_epochs, qat_best)
    goal = Objectives(dict(objectives), dict(limits or {}))
    clock = Clock()
    every = 0 if qat_best else qat_epochs
    bench = Workbench(task, every, clock, costs)
    space = build_space(bench.sites.values(), formats, sites, bench.fit)
    terrain = Terrain(space, goal, bench.costs, progress)
    with ExitStack() as stack:
        stack.enter_context(optuna_quiet())
        stack.enter_context(database_errors(storage))
        hired = stack.enter_context(hire(bench, clock, workers, ray))
        proposer = _proposer(sampler, bench, terrain, seed)
        place = stack.enter_context(seat(name, storage, join))
        with place.turn():  # of drivers that join, one measures what all of them need
            stored = _open(name, storage, bench, terrain, hired)
            keep(stored, {PLANNED: trials + (qat_best or 0)})
            front: list[Genome] = []
            if start == "front" or isinstance(proposer, MoveProposer):
                by = terrain.named_costs
                try:
                    found = sensitivities or measure(
                        bench, terrain.tables, storage, "kl", by, progress, hired, trials
                    )
                except KeyboardInterrupt:
                    return Study.from_stored(stored, interrupted=True)
                front = _front(found, proposer, terrain, stored)
        ledger = Ledger(stored, place, goal, clock)
        driver = Driver(bench, terrain, proposer, ledger, hired, clock, every, front)
        clock.seconds.clear()  # what was spent before the first trial is no trial's
        run = driver.trials(trials, qat_best or 0, qat_epochs)
        with SearchProgress(name, driver.earlier, trials + (qat_best or 0), goal, progress) as line:
            interrupted = _watch(driver, run, line, on_trial)
            if interrupted or (progress and driver.count < trials):
                line.say(_end(driver, stored, trials, storage, interrupted))
        return Study.from_stored(stored, clock.seconds, interrupted)


def _check_arguments(task: object, objectives: object, limits: object) -> None:
    if not isinstance(task, Task):
        raise StudyError(f"task is {task!r}: give a quire.Task, or Task.resolve('module:function')")
    if not isinstance(objectives, Mapping):
        raise StudyError(f'objectives are {objectives!r}: write {{"accuracy": "max", ...}}')
    if not isinstance(limits, Mapping | None):
        raise StudyError(f'limits are {limits!r}: write {{"bits": 4.0, "accuracy": ">= 0.9"}}')


def _check_calls(**given: object) -> None:
    for name, value in given.items():
        if value is not None and not callable(value):
            raise StudyError(f"{name}={value!r}: give a function, or None")


def _check_sensitivities(given: object) -> None:
    if not isinstance(given, Sensitivities | None):
        raise StudyError(f"sensitivities={given!r}: give what quire.sensitivity gave, or None")


STARTS = ("uniform", "front")
"""Which plans are tried first."""

LEAST = {"trials": 1, "workers": 1, "seed": 0, "qat_epochs": 0, "qat_best": 1}
"""The least value of each number that `search` takes."""


def _check_integers(**given: object) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < LEAST[name]:
            raise StudyError(f"{name}={value!r}: give an integer from {LEAST[name]} on")


def _check_given(**given: object) -> None:
    _check_integers(**{name: value for name, value in given.items() if value is not None})


def _check_training(task: Task, epochs: int, best: int | None) -> None:
    if epochs and task.train is None:
        raise TaskError(f"qat_epochs={epochs}, but the task has no train(model, epochs)")
    if best is not None and not epochs:
        raise StudyError(f"qat_best={best} trains no plan without qat_epochs: give both")


def _watch(
    driver: Driver,
    run: Iterator[tuple[Trial, bool]],
    line: SearchProgress,
    on_trial: Callable[[Trial], object] | None,
) -> bool:
    """Run the trials and show each; whether Ctrl-C ended them."""

    def show(trials: Iterable[tuple[Trial, bool]]) -> None:
        for trial, own in trials:
            line.show(trial)
            if own and on_trial is not None:
                on_trial(trial)

    try:
        show(run)
    except KeyboardInterrupt:
        show(driver.rescue())
        return True
    return False


def _end(driver: Driver, stored: optuna.Study, trials: int, storage: str, interrupted: bool) -> str:
    """Why a search ended before it had all trials, in words."""
    if not interrupted:
        return f"Ended after {driver.count} of {trials} trials: no other plan was found."
    kept = len(stored.get_trials(deepcopy=False))  # the last may not be counted yet
    return (
        f"Stopped after {kept} of {trials} trials, which are kept in {shown(storage)}: "
        f"the same search with name={stored.study_name!r} goes on from there."
    )


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


def _open(
    name: str, storage: str, bench: Workbench, terrain: Terrain, workers: Workers
) -> optuna.Study:
    """The stored study of that name, or a new one that has the baseline as its first trial."""
    about = {**bench.describe(), **terrain.describe()}
    stored = find_study(name, storage)
    if stored is not None:
        check_same(stored, about)
        keep(stored, {MODEL: bench.picture(terrain.space)})
        return stored
    workers.submit(0, Evaluate({}, bench.qat_epochs))
    ((_, answer),) = workers.finished()
    baseline = bench.trial(0, {}, BASELINE, measured(answer))
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
