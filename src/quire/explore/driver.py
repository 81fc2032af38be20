"""The loop of a search: propose a plan, have it measured, store what it gave, learn from it.

A plan counts as known from the moment it is proposed, so that none is tried twice, however many
workers are at work. With one worker each proposal has seen all trials before it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from quire.explore.clock import Clock
from quire.explore.ledger import Entry, Key, Ledger
from quire.explore.limits import Terrain
from quire.explore.objectives import Objectives, pareto_front
from quire.explore.records import to_record
from quire.explore.sampling import Proposal, Proposer
from quire.explore.space import Genome, Params
from quire.explore.trial import TRAINED, UNIFORM, Trial
from quire.explore.workbench import Measured, Workbench
from quire.explore.worker import Answer
from quire.explore.workers import Workers

PAUSE = 0.5  # seconds between two looks at what other drivers do


@dataclass(frozen=True)
class Evaluate:
    """The job of measuring a plan, {site: format string}, after epochs of training."""

    formats: Mapping[str, str]
    epochs: int

    def __call__(self, bench: Workbench) -> Measured:
        return bench.measure(self.formats, self.epochs)


def measured(answer: Answer) -> Measured:
    """What a plan gave, or that its workers ended."""
    return Measured({}, 0.0, answer.problem) if answer.problem else answer.value


@dataclass(frozen=True)
class Work:
    """A plan to measure, with what its sampler and the storage want beside."""

    formats: Mapping[str, str]
    label: str
    epochs: int
    params: Params = field(default_factory=dict[str, "int | str"])
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Driver:
    """A search at work on a stored study, whose trials it takes over first.

    epochs: of training that every plan gets. front: plans to try after the uniform ones.
    count: how many trials the study has, those of plans trained later left out.
    """

    def __init__(
        self,
        bench: Workbench,
        terrain: Terrain,
        proposer: Proposer,
        ledger: Ledger,
        workers: Workers,
        clock: Clock,
        epochs: int,
        front: Sequence[Genome] = (),
    ) -> None:
        self._bench, self._terrain, self._proposer = bench, terrain, proposer
        self._ledger, self._workers, self._clock = ledger, workers, clock
        self._epochs = epochs
        uniform = [(UNIFORM + label, genome) for label, genome in terrain.space.uniform().items()]
        self._first = iter([*uniform, *(("", genome) for genome in front)])
        self._numbers = count()
        self._running: dict[int, Work] = {}
        self._answers: deque[tuple[int, Answer]] = deque()
        self._own: dict[Key, Work] = {}
        self.count = 0
        self._learn(ledger.read())
        self.earlier = list(ledger.trials)

    @property
    def objectives(self) -> Objectives:
        """What the search wants."""
        return self._terrain.objectives

    def trials(self, total: int, best: int = 0, epochs: int = 0) -> Iterator[tuple[Trial, bool]]:
        """Run trials until the study has `total`: the uniform plans, the front, then proposals.

        Then the `best` plans of the front are trained and measured once more. Gives each trial
        that is new in the study, and whether this driver ran it.
        """
        yield from self._run(partial(self._propose, total))
        if best:
            yield from self._run(partial(self._train, self._best(best), epochs))

    def rescue(self) -> list[tuple[Trial, bool]]:
        """After Ctrl-C, wherever it came: store what has been measured; gives those trials."""
        self._answers.extend(self._workers.finished(0))
        return list(self._store())

    def _run(self, next_work: Callable[[], Work | None]) -> Iterator[tuple[Trial, bool]]:
        """Run what `next_work` gives until there is no more, and other drivers are done too."""
        pause = PAUSE if self._ledger.shared else None
        while True:
            yield from self._fill(next_work)
            if self._running:
                self._answers.extend(self._workers.finished(pause))
                yield from self._store()
            elif self._ledger.others:
                time.sleep(PAUSE)
            else:
                return

    def _store(self) -> Iterator[tuple[Trial, bool]]:
        """Store the trials of the answers, each of which stays until it is stored."""
        while self._answers:
            number, answer = self._answers[0]
            new = self._keep(self._running[number], answer)
            self._answers.popleft()
            del self._running[number]
            yield from new

    def _fill(self, next_work: Callable[[], Work | None]) -> Iterator[tuple[Trial, bool]]:
        """Give the workers that are free a plan each."""
        while len(self._running) < self._workers.slots:
            with self._ledger.turn() as new:
                learned = self._learn(new)
                work = next_work()
                if work is not None:
                    self._claim(work)
            yield from learned
            if work is None:
                return
            number = next(self._numbers)
            self._running[number] = work
            self._workers.submit(number, Evaluate(work.formats, work.epochs))

    def _claim(self, work: Work) -> None:
        key = self._ledger.key(work.formats, work.label)
        self._own[key] = work
        self._ledger.claim(key)
        self._terrain.remember(work.formats)

    def _propose(self, total: int) -> Work | None:
        """The next plan to try; None while there is none, or no room for one."""
        claims = [*self._ledger.others, *map(self._key, self._running.values())]
        if self.count + sum(not label for label, _ in claims) >= total:
            return None
        for label, genome in self._given():
            if not self._terrain.is_known(genome) and self._terrain.admits(genome):
                return self._work(label, Proposal(genome, self._terrain.space.params(genome)))
        with self._clock("sampler"):
            proposal = self._proposer.propose()
        if proposal is None:
            return None
        return self._work("", proposal)

    def _given(self) -> Iterator[tuple[str, Genome]]:
        """(label, plan) of plans that no sampler proposes, each once; other drivers' first."""
        space = self._terrain.space
        labels = {genome: UNIFORM + label for label, genome in space.uniform().items()}
        while self._ledger.dropped:
            genome = space.genome_of(self._ledger.dropped.pop())
            yield labels.get(genome, ""), genome
        yield from self._first

    def _work(self, label: str, proposal: Proposal) -> Work:
        formats = self._terrain.space.formats(proposal.genome)
        return Work(formats, label, self._epochs, proposal.params, proposal.attributes)

    def _best(self, most: int) -> list[Trial]:
        """The first plans of the front of those that were not trained."""
        goal = self.objectives
        trials = [
            trial
            for trial in self._ledger.trials
            if trial.formats and trial.state == "complete" and goal.admits(trial.metrics)
            if not trial.label.startswith(TRAINED)
        ]
        return pareto_front(trials, [goal.losses(trial.metrics) for trial in trials])[:most]

    def _train(self, trials: Sequence[Trial], epochs: int) -> Work | None:
        """The next plan to train; None where each was, or another driver is at work on it."""
        label = f"{TRAINED}{epochs}"
        for trial in trials:
            if not self._ledger.has(self._ledger.key(trial.formats, label)):
                return Work(trial.formats, label, epochs)
        return None

    def _key(self, work: Work) -> Key:
        return self._ledger.key(work.formats, work.label)

    def _keep(self, work: Work, answer: Answer) -> list[tuple[Trial, bool]]:
        """Store the trial of a plan that was measured, and learn from it."""
        wanted = self.objectives.names
        trial = self._bench.trial(0, work.formats, work.label, measured(answer), wanted)
        return self._learn(self._ledger.keep(trial, work.attributes))

    def _learn(self, entries: Sequence[Entry]) -> list[tuple[Trial, bool]]:
        """Take over trials that are new in the study, and what others are at work on."""
        learned = [(entry.trial, self._take(entry)) for entry in entries]
        self._terrain.reserve(self._ledger.formats(key) for key in self._ledger.others)
        return learned

    def _take(self, entry: Entry) -> bool:
        """Show a trial to the sampler, unless it was trained; whether it is this driver's own."""
        work, trial = self._own.pop(entry.key, None), entry.trial
        if trial.label.startswith(TRAINED):
            return work is not None
        self.count += 1
        self._terrain.remember(trial.formats)
        space = self._terrain.space
        params = space.params(space.genome_of(trial.formats)) if trial.formats else {}
        record = to_record(trial, self._terrain, work.params if work else params, entry.attributes)
        with self._clock("sampler"):
            self._proposer.learn(record)
        return work is not None
