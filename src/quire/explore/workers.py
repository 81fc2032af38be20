"""Who does the jobs of a search: this process, or a pool of workers elsewhere.

The driver proposes, stores and learns; workers evaluate. A worker that ends before its time costs
nothing but its own work: the job is given to another one, `TRIES` times in all. A pool does not
know what its workers are; a `Crew` starts them and waits for them.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from quire.errors import StudyError
from quire.explore.clock import Clock
from quire.explore.workbench import Workbench
from quire.explore.worker import Answer, Job, pack

TRIES = 3  # of a job whose workers end, and of starting workers in a row


class LostError(Exception):
    """A worker is no more; the message says how it ended."""


class Hand(Protocol):
    """One worker, as a pool holds it."""

    @property
    def signal(self) -> Any:
        """What its crew waits for."""
        ...

    def give(self, job: Job) -> None:
        """Let it do a job; LostError where it has ended."""
        ...

    def take(self) -> Answer:
        """What it says; LostError where it has ended."""
        ...

    def dismiss(self) -> None:
        """Tell it, as it has nothing to do, that it may end; `stop` comes next."""
        ...

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        ...


class Crew(Protocol):
    """A kind of workers."""

    def hire(self) -> Hand:
        """A new worker; its first answer comes when it is ready."""
        ...

    def wait(self, signals: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        """Those signals whose worker has something to say or has ended; waits for one."""
        ...

    def close(self) -> None:
        """Let go of what workers shared; all have been stopped."""
        ...


class Workers(Protocol):
    """Takes jobs, each under a key, and gives their answers as they come.

    slots: how many jobs it takes at a time.
    """

    slots: int

    def submit(self, key: int, job: Job) -> None:
        """Take a job; there are never more than `slots`."""
        ...

    def finished(self, seconds: float | None = None) -> list[tuple[int, Answer]]:
        """(key, answer) of jobs that are done; waits for one, at most so long."""
        ...


class Alone:
    """This process as the only worker: a job is done when its answer is asked for."""

    slots = 1

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._jobs: list[tuple[int, Job]] = []

    def submit(self, key: int, job: Job) -> None:
        """Take a job."""
        self._jobs.append((key, job))

    def finished(self, seconds: float | None = None) -> list[tuple[int, Answer]]:
        """The job's key and answer; none where there is no time to do it."""
        jobs, self._jobs = self._jobs, []
        return [] if seconds == 0 else [(key, Answer(job(self._bench))) for key, job in jobs]


class Pool:
    """Workers of a crew, started when there is something to do.

    It takes a job more than it has workers, so that none waits for the driver; with one worker it
    does not, so that each proposal has seen all trials before it.

    clock: gets the seconds that workers spent, by name.
    """

    def __init__(self, crew: Crew, hands: int, clock: Clock) -> None:
        self.slots = hands + (hands > 1)
        self._hands = hands
        self._crew, self._clock = crew, clock
        self._waiting: deque[int] = deque()
        self._jobs: dict[int, Job] = {}
        self._losses: Counter[int] = Counter()
        self._starting: list[Hand] = []
        self._idle: list[Hand] = []
        self._busy: list[tuple[Hand, int]] = []
        self._false_starts = 0
        self._done: list[tuple[int, Answer]] = []

    def submit(self, key: int, job: Job) -> None:
        """Take a job."""
        self._jobs[key] = job
        self._waiting.append(key)

    def finished(self, seconds: float | None = None) -> list[tuple[int, Answer]]:
        """(key, answer) of jobs that are done; waits for one, at most so long."""
        self._assign()
        while self._jobs and not self._done:
            hands = [*self._starting, *(hand for hand, _ in self._busy)]
            ready = self._crew.wait([hand.signal for hand in hands], seconds)
            for hand in [hand for hand in hands if hand.signal in ready]:
                self._hear(hand)
            self._assign()
            if seconds is not None:
                break
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End all workers, whatever they do."""
        for hand in self._idle:
            hand.dismiss()
        for hand in [*self._starting, *(hand for hand, _ in self._busy), *self._idle]:
            hand.stop()
        self._crew.close()

    def _assign(self) -> None:
        """Give what waits to idle workers; if there is more, start those that are lacking."""
        while self._waiting and self._idle:
            hand, key = self._idle.pop(), self._waiting.popleft()
            self._busy.append((hand, key))
            try:
                hand.give(self._jobs[key])
            except LostError as lost:
                self._lose(hand, lost)
        there = len(self._starting) + len(self._busy) + len(self._idle)
        if self._waiting:
            self._starting += [self._crew.hire() for _ in range(self._hands - there)]

    def _hear(self, hand: Hand) -> None:
        try:
            answer = hand.take()
        except LostError as lost:
            return self._lose(hand, lost)
        key = self._release(hand)
        self._idle.append(hand)
        if key is None:
            self._false_starts = 0
            if answer.problem:
                raise StudyError(f"workers cannot take the task: {answer.problem}")
            return None
        for name, spent in answer.seconds.items():
            self._clock.seconds[name] += spent
        return self._finish(key, answer)

    def _lose(self, hand: Hand, lost: LostError) -> None:
        """Give the job of a worker that has ended to another one."""
        hand.stop()
        key = self._release(hand)
        if key is None:
            self._false_starts += 1
            if self._false_starts == TRIES:
                raise StudyError(f"{TRIES} workers in a row ended before they were ready: {lost}")
            return
        self._losses[key] += 1
        if self._losses[key] < TRIES:
            self._waiting.appendleft(key)
        else:
            problem = f"{TRIES} workers ended while they did this: {lost}"
            self._finish(key, Answer(problem=problem))

    def _release(self, hand: Hand) -> int | None:
        """The job of a worker, which has none from now on; None where it was not ready yet."""
        if hand in self._starting:
            self._starting.remove(hand)
            return None
        (key,) = [key for other, key in self._busy if other is hand]
        self._busy = [pair for pair in self._busy if pair[0] is not hand]
        return key

    def _finish(self, key: int, answer: Answer) -> None:
        del self._jobs[key]
        self._done.append((key, answer))


@contextmanager
def hire(
    bench: Workbench, clock: Clock, workers: int | None, ray: str | None
) -> Generator[Workers]:
    """The workers that were asked for, until the end of the block.

    workers: how many; None: one, or what a Ray cluster has room for. ray: its address.
    """
    if ray is None and workers in (None, 1):
        yield Alone(bench)
        return
    crew, hands = _crew(pack(bench.task), workers, ray)
    pool = Pool(crew, hands, clock)
    try:
        yield pool
    finally:
        pool.close()


def _crew(packed: bytes, workers: int | None, ray: str | None) -> tuple[Crew, int]:
    if ray is None:
        from quire.explore.processes import Processes

        return Processes(packed), workers or 1
    from quire.explore.cluster import Actors

    crew = Actors(packed, ray)
    return crew, crew.room(workers)


def answers(workers: Workers, jobs: Iterable[Job]) -> Iterator[tuple[int, Any]]:
    """(number, value) of each job as it is done; after Ctrl-C those that are done already.

    Raises StudyError where a job has no value.
    """
    numbered = enumerate(jobs)
    running = 0
    try:
        while True:
            for number, job in numbered:
                workers.submit(number, job)
                running += 1
                if running == workers.slots:
                    break
            if not running:
                return
            for number, answer in workers.finished():
                running -= 1
                yield number, _value(answer)
    except KeyboardInterrupt:
        for number, answer in workers.finished(0):
            yield number, _value(answer)
        raise


def _value(answer: Answer) -> Any:
    if answer.problem:
        raise StudyError(f"a worker failed: {answer.problem}")
    return answer.value
