"""Where the time of a search goes."""

import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager


class Clock:
    """Seconds by name. A name that is timed inside another one is taken out of the outer one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._names: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        """Count the time of the block to `name`."""
        self._book()
        self._names.append(name)
        try:
            yield
        finally:
            self._book()
            self._names.pop()

    def _book(self) -> None:
        now = time.perf_counter()
        if self._names:
            self.seconds[self._names[-1]] += now - self._since
        self._since = now
