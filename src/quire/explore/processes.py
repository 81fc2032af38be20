"""Workers as processes of this machine, each on one thread.

A worker is a new Python that is told where modules are; it does not run the driver's script again,
as `multiprocessing` would have it do. The task goes there through a file without a name, so that
one writing serves all and a kill leaves nothing behind. A worker ends when its pipe does.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from quire.explore.worker import Answer, Job
from quire.explore.workers import LostError

CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from quire.explore.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
GRACE = 5.0  # seconds in which a worker that has nothing to do ends by itself


class Processes:
    """A crew of processes that have the same task."""

    def __init__(self, packed: bytes) -> None:
        self._task = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._task.write(packed)
        self._task.flush()

    def hire(self) -> "Process":
        """Start a process."""
        return Process(self._task.fileno())

    def wait(self, signals: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        """The pipes that can be read, or are closed."""
        return wait(signals, seconds)

    def close(self) -> None:
        """Drop the file of the task."""
        self._task.close()


class Process:
    """A worker as a process; in a session of its own, so that Ctrl-C reaches the driver alone."""

    def __init__(self, task: int) -> None:
        near, far = Pipe()
        self.signal = near
        self._grace = 0.0
        places = json.dumps([path or os.getcwd() for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE, places, str(far.fileno()), str(task)],
            pass_fds=(far.fileno(), task),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )
        far.close()

    def give(self, job: Job) -> None:
        """Send a job."""
        try:
            self.signal.send(job)
        except OSError:
            raise LostError(self._end()) from None

    def take(self) -> Answer:
        """Receive an answer."""
        try:
            return self.signal.recv()
        except (EOFError, OSError):
            raise LostError(self._end()) from None

    def dismiss(self) -> None:
        """Let the process end by itself, as Python does."""
        self._grace = GRACE
        with suppress(OSError):  # where it is no more
            self.signal.send(None)

    def stop(self) -> None:
        """End the process, and wait until it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace)
        self._process.kill()
        self._process.wait()
        self.signal.close()

    def _end(self) -> str:
        """How a process whose pipe is closed ended, in words."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "the last closed its pipe"
        how = f"with signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the last {how}" + (", perhaps for want of memory" if code == -9 else "")
