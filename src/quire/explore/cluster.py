"""Workers as actors of a Ray cluster: one GPU each where it has any, else one CPU.

Every machine of the cluster needs Quire, and the modules that the task's functions come from,
where Python finds them. Ray ends the actors when their driver ends.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from quire.errors import StudyError
from quire.explore.worker import Answer, Job, Worker
from quire.explore.workers import LostError

try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise StudyError(f"ray= needs Ray ({error}): pip install 'quire[ray]'") from error


class Actors:
    """A crew of actors that have the same task.

    address: "auto" for the cluster of this machine, "local" for one that is started for this
        search, or what `ray.init` takes, such as "ray://host:10001".
    Raises StudyError where no cluster answers.
    """

    def __init__(self, packed: bytes, address: str) -> None:
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address, logging_level=logging.WARNING, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                problem, *_ = str(error).split("\n")
                raise StudyError(
                    f"ray={address!r}: {problem}; start a cluster (`ray start --head`), or give "
                    "the address of one"
                ) from error
        self._gpus = int(cast("float", ray.cluster_resources().get("GPU", 0)))
        self._task = ray.put(packed)

    def room(self, workers: int | None) -> int:
        """How many workers the cluster takes: those asked for, or one a GPU, or else one a CPU.

        Raises StudyError for more than it takes.
        """
        kind = "GPU" if self._gpus else "CPU"
        most = int(ray.cluster_resources().get(kind, 0))
        if workers is not None and workers > most:
            raise StudyError(f"workers={workers}, but the cluster has {most} {kind}s, one for each")
        return workers or most

    def hire(self) -> "Actor":
        """Start an actor, where and when the cluster has room."""
        return Actor(self._task, min(self._gpus, 1))

    def wait(self, signals: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        """The references whose answers are there."""
        ready, _ = ray.wait(list(signals), num_returns=1, timeout=seconds)
        return ready

    def close(self) -> None:
        """Leave the cluster, if this search entered it."""
        if self._ours:
            ray.shutdown()


class Actor:
    """A worker as an actor."""

    def __init__(self, task: Any, gpus: int) -> None:
        self._actor: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Worker).remote(
            task
        )
        self.signal = self._actor.prepare.remote()

    def give(self, job: Job) -> None:
        """Send a job."""
        self.signal = self._actor.do.remote(job)

    def take(self) -> Answer:
        """Receive an answer."""
        try:
            return ray.get(self.signal)
        except RayError as error:
            problem, *_ = str(error).strip().split("\n")
            raise LostError(f"the last: {problem}") from error

    def dismiss(self) -> None:
        """Nothing: an actor that does nothing ends at once."""

    def stop(self) -> None:
        """End the actor."""
        with suppress(RayError):
            ray.kill(self._actor)
