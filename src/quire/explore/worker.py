"""A worker of a search: has the task, and does one job at a time, on one thread.

`quire.explore.processes` runs it as a process of this machine, `quire.explore.cluster` as an actor
of a Ray cluster. What passes between the two sides is pickled; it comes from, and goes to, the
driver that started the worker, and nowhere else.
"""

import mmap
import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, cast

import cloudpickle
import torch

from quire.errors import StudyError
from quire.explore.clock import Clock
from quire.explore.task import Task
from quire.explore.workbench import Workbench

Job: TypeAlias = Callable[[Workbench], Any]
"""What a worker does: a frozen dataclass that is called with the task."""


@dataclass(frozen=True)
class Answer:
    """What a worker says.

    value: what the job gave. seconds: where its time went, by name.
    problem: why there is no value; of the first answer, why this worker, and any other one, is of
        no use.
    """

    value: Any = None
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    problem: str = ""


def pack(task: Task) -> bytes:
    """The task as workers get it; functions of scripts and notebooks, and closures, are whole.

    Raises StudyError where it holds what cannot be sent.
    """
    try:
        return cloudpickle.dumps(task)
    except Exception as error:  # whatever the objects that the user's functions hold raise
        raise StudyError(
            f"the task cannot be sent to workers: {type(error).__name__}: {error}; let evaluate, "
            "train and the model hold no open files, locks or generators, or search with workers=1"
        ) from error


class Worker:
    """One worker; `packed` is the task."""

    def __init__(self, packed: bytes | mmap.mmap) -> None:
        self._packed = packed
        self._clock = Clock()

    def prepare(self) -> Answer:
        """Unpack the task and capture its model."""
        torch.set_num_threads(1)
        try:
            task = cast("Task", cloudpickle.loads(self._packed))
            self._bench = Workbench(task, 0, self._clock)
        except Exception as error:  # such as a module that this machine lacks
            return Answer(problem=f"{type(error).__name__}: {error}")
        return Answer()

    def do(self, job: Job) -> Answer:
        """Do a job."""
        self._clock.seconds.clear()
        try:
            value = job(self._bench)
        except Exception as error:  # a job takes those of the user's functions as its outcome
            return Answer(problem=f"{type(error).__name__}: {error}")
        return Answer(value, dict(self._clock.seconds))


def main(channel: int, task: int) -> None:
    """Serve the driver at the other end of a pipe until it says None, or is no more.

    channel, task: file descriptors of the pipe, and of a file with the packed task.
    """
    connection: Connection = Connection(channel)
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()
    worker = Worker(mmap.mmap(task, 0, access=mmap.ACCESS_READ))
    answer = worker.prepare()
    with suppress(BrokenPipeError):  # the driver is no more
        connection.send(answer)
        while (job := jobs.get()) is not None:
            connection.send(worker.do(job))


def _receive(connection: Connection, jobs: "queue.SimpleQueue[Job | None]") -> None:
    """Pass on jobs, also while one is done, so that the end of the driver is noticed at once."""
    last = False
    try:
        while not last:
            job = connection.recv()
            last = job is None
            jobs.put(job)
    except (EOFError, OSError):
        pass
    finally:
        if not last:
            os._exit(1)
