"""A pool of workers that are played by a script: losses, retries, workers of no use."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from quire.errors import StudyError
from quire.explore import Task
from quire.explore.clock import Clock
from quire.explore.workbench import Workbench
from quire.explore.worker import Answer, Worker, pack
from quire.explore.workers import Alone, LostError, Pool, answers

READY = Answer()


class Scripted:
    """A worker that says what its script holds: answers, or "lost" where it ends."""

    def __init__(self, script: Sequence[Any]) -> None:
        self.signal = object()
        self.script, self.jobs, self.ends = deque(script), [], list[str]()

    def give(self, job: Any) -> None:
        if list(self.script) == ["gone"]:
            raise LostError("gone")
        self.jobs.append(job)

    def take(self) -> Answer:
        said = self.script.popleft()
        if said == "lost":
            raise LostError("lost")
        return said

    def dismiss(self) -> None:
        self.ends.append("dismissed")

    def stop(self) -> None:
        self.ends.append("stopped")


class Script:
    """A crew of them; `order` says by number who says something next."""

    def __init__(self, *scripts: Sequence[Any], order: Sequence[int]) -> None:
        self.scripts, self.order = deque(scripts), deque(order)
        self.hands, self.closed = list[Scripted](), False

    def hire(self) -> Scripted:
        self.hands.append(Scripted(self.scripts.popleft()))
        return self.hands[-1]

    def wait(self, signals: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        signal = self.hands[self.order.popleft()].signal
        assert signal in signals
        return [signal]

    def close(self) -> None:
        self.closed = True


def job(bench: Any) -> None: ...


def value(x: Any) -> Answer:
    return Answer(x, {"evaluate": 1.0})


def test_answers_come_in_the_order_in_which_they_are_done() -> None:
    clock = Clock()
    crew = Script([READY, value("a"), value("c")], [READY, value("b")], order=[0, 1, 1, 0, 0])
    pool = Pool(crew, 2, clock)
    for key in (0, 1):
        pool.submit(key, job)
    found = pool.finished() + pool.finished()
    pool.submit(2, job)
    found += pool.finished()
    assert [(key, answer.value) for key, answer in found] == [(1, "b"), (0, "a"), (2, "c")]
    assert len(crew.hands) == 2
    assert clock.seconds == {"evaluate": 3.0}
    pool.close()
    assert [hand.ends for hand in crew.hands] == [["dismissed", "stopped"]] * 2
    assert crew.closed


def test_the_job_of_a_worker_that_ends_goes_to_another_one() -> None:
    crew = Script(
        [READY, "lost"], [READY, value("a"), "gone"], [READY, value("b")], order=[0, 0, 1, 1, 2, 2]
    )
    pool = Pool(crew, 1, Clock())
    pool.submit(0, job)
    assert pool.finished() == [(0, value("a"))]
    pool.submit(1, job)  # its worker has ended meanwhile
    assert pool.finished() == [(1, value("b"))]
    assert [hand.ends for hand in crew.hands] == [["stopped"], ["stopped"], []]


def test_a_job_that_ends_three_workers_has_a_problem_and_others_go_on() -> None:
    crew = Script(*[[READY, "lost"]] * 3, [READY, value("b")], order=[0, 0, 1, 1, 2, 2, 3, 3])
    pool = Pool(crew, 1, Clock())
    pool.submit(0, job)
    ((key, answer),) = pool.finished()
    assert (key, answer.problem) == (0, "3 workers ended while they did this: lost")
    pool.submit(1, job)
    assert pool.finished() == [(1, value("b"))]


def test_workers_that_never_get_ready_are_an_error() -> None:
    pool = Pool(Script(["lost"], ["lost"], ["lost"], order=[0, 1, 2]), 1, Clock())
    pool.submit(0, job)
    with pytest.raises(StudyError, match="3 workers in a row ended before they were ready: lost"):
        pool.finished()


def test_a_task_that_workers_cannot_take_is_an_error() -> None:
    pool = Pool(Script([Answer(problem="ModuleNotFoundError: no lab")], order=[0]), 1, Clock())
    pool.submit(0, job)
    with pytest.raises(StudyError, match="workers cannot take the task: ModuleNotFoundError"):
        pool.finished()


def test_a_job_waits_for_no_new_worker_where_an_old_one_is_free() -> None:
    crew = Script(
        [READY, "lost"], [READY, value("b"), value("a")], [], order=[0, 1, 0, 1, 1]
    )  # the third, hired for the first, never starts
    pool = Pool(crew, 2, Clock())
    pool.submit(0, job)
    pool.submit(1, job)
    found = [*pool.finished(), *pool.finished()]
    assert [(key, answer.value) for key, answer in found] == [(1, "b"), (0, "a")]
    assert len(crew.hands) == 3


def test_without_time_to_wait_only_what_is_done_is_given() -> None:
    pool = Pool(Script([READY], order=[0]), 1, Clock())
    pool.submit(0, job)
    assert pool.finished(0) == []
    alone = Alone(None)  # type: ignore[arg-type]
    alone.submit(0, job)
    assert alone.finished(0) == []


def test_a_job_that_raises_ends_the_stream_of_answers(task: Task) -> None:
    crew = Script([READY, value(1), Answer(problem="ValueError: no")], order=[0, 0, 0])
    stream = answers(Pool(crew, 1, Clock()), [job, job, job])
    assert next(stream) == (0, 1)
    with pytest.raises(StudyError, match="a worker failed: ValueError: no"):
        next(stream)


def test_a_worker_does_what_the_bench_does(task: Task) -> None:
    threads = torch.get_num_threads()
    try:
        worker = Worker(pack(Workbench(task, 0, Clock()).task))
        assert worker.prepare() == Answer()
        plan = {"0.weight": "mxint4"}
        answer = worker.do(lambda bench: bench.measure(plan, 0).metrics)
        assert answer.value == Workbench(task, 0, Clock()).measure(plan, 0).metrics
        assert answer.seconds.keys() == {"quire", "evaluate"}
        assert worker.do(lambda bench: 1 / 0).problem == "ZeroDivisionError: division by zero"
        assert Worker(b"no task").prepare().problem.startswith("UnpicklingError")
    finally:
        torch.set_num_threads(threads)


def test_calibration_data_that_runs_once_reaches_workers(task: Task) -> None:
    (x,) = task.calibration or ()
    once = Task(task.model, task.example_inputs, task.evaluate, calibration=iter([(x,)]))  # type: ignore[arg-type]
    bench = Workbench(once, 0, Clock())
    worker = Worker(pack(bench.task))
    threads = torch.get_num_threads()
    try:
        worker.prepare()
        assert worker.do(lambda bench: len(bench.batches)).value == 1
    finally:
        torch.set_num_threads(threads)
    assert len(bench.batches) == 1


def test_a_task_that_holds_an_open_file_is_refused(task: Task, tmp_path: Any) -> None:
    with (tmp_path / "log").open("w") as log:

        def evaluate(model: Any) -> dict[str, float]:
            log.write("evaluated")
            return {"error": 1.0}

        bad = Task(task.model, task.example_inputs, evaluate)
        with pytest.raises(StudyError, match=r"cannot be sent to workers: .*no open files"):
            pack(bad)
