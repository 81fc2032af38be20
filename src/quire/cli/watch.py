"""The live view of a study that another process runs: trials, rate, the best so far, the front."""

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from quire.cli.tables import numbered, trials_table
from quire.errors import StudyError

if TYPE_CHECKING:
    from quire.explore import Study, Trial
    from quire.explore.watch import Watch

PAUSE = 0.5  # seconds between two looks
TRIES = 6  # to look before it counts as an error
WINDOW = 60.0  # seconds over which the rate is taken
MOST_ROWS = 12  # of the front
QUIET = 60.0  # seconds without a trial after which the view says so


class Pace:
    """How many trials a second end, over the last minute.

    counts: (seconds, trials) of the looks in that time.
    """

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        self._changed = 0.0

    def add(self, now: float, trials: int) -> None:
        """Note the trials at a time."""
        if not self._counts or self._counts[-1][1] != trials:
            self._changed = now
        self._counts.append((now, trials))
        while now - self._counts[0][0] > WINDOW:
            self._counts.popleft()

    @property
    def rate(self) -> float:
        """Trials a second; 0 where none has ended."""
        (first, few), (last, many) = self._counts[0], self._counts[-1]
        return (many - few) / (last - first) if last > first else 0.0

    @property
    def quiet(self) -> float:
        """Seconds since the last trial that was seen to end."""
        return self._counts[-1][0] - self._changed


def follow(name: str, storage: str, trials: int) -> None:
    """Show a study until it has as many trials as it is to have, or until Ctrl-C.

    trials: how many that is where its search did not say.
    """
    from quire.explore.watch import Watch

    watch, pace = Watch(name, storage), Pace()
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while True:
                study = _look(watch)
                pace.add(time.monotonic(), len(study.trials))
                total = study.planned or trials
                live.update(view(study, total, pace), refresh=True)
                if len(study.trials) >= total:
                    return
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            return  # of the view; the search goes on


def _look(watch: "Watch") -> "Study":
    """The study as it is now; a database that is being written to may be out of reach at times."""
    for _ in range(TRIES):
        with suppress(StudyError):
            return watch.look()
        time.sleep(PAUSE)
    return watch.look()


def view(study: "Study", total: int, pace: Pace) -> Group:
    """What is on the screen."""
    parts: list[Table | Text] = [_head(study, total, pace)]
    front = study.pareto()
    best = _best(study)
    if best is not None:
        parts.append(_line("best", _metrics(study, best)))
    if study.trials:  # it may have been made just now
        parts.append(_line("fp32", _metrics(study, study.baseline)))
    if study.failed:
        parts.append(Text(study.failures(), style="yellow"))
    if front:
        parts += [Text(""), trials_table(_spread(front, MOST_ROWS), _names(study))]
    else:
        parts.append(Text(study.shortfall(), style="yellow"))
    return Group(*parts)


def _head(study: "Study", total: int, pace: Pace) -> Table:
    """The name, a bar, and the pace, in a line."""
    done = len(study.trials)
    line = Table.grid(padding=(0, 1))
    told = [f"{pace.rate:.1f}/s"] if pace.rate else []
    if pace.rate and total > done:
        told.append(f"{_time((total - done) / pace.rate)} left")
    if pace.quiet > QUIET:
        told.append(f"no trial for {_time(pace.quiet)}")
    bar = ProgressBar(total=max(total, done), completed=done, width=24)
    told = [f"{done:,} of {total:,} trials", *told]
    line.add_row(Text(study.name, style="bold"), bar, " · ".join(told))
    return line


def _best(study: "Study") -> "Trial | None":
    return study.best_trial() if study.feasible else None


def _line(name: str, words: str) -> Text:
    return Text.assemble((f"{name}  ", "bold"), words)


def _metrics(study: "Study", trial: "Trial") -> str:
    """A trial's objectives and limited metrics."""
    known = [name for name in _names(study) if name in trial.metrics]
    numbers = [f"{name} {numbered(trial.metrics[name])}" for name in known]
    return " · ".join([*numbers, f"trial {trial.number}"])


def _names(study: "Study") -> list[str]:
    """The metrics that objectives or limits name, and the bits."""
    return list(dict.fromkeys([*study.objectives.names, "bits"]))


def _spread(front: "list[Trial]", most: int) -> "list[Trial]":
    """At most so many trials of a front, both of its ends among them."""
    if len(front) <= most:
        return front
    step = (len(front) - 1) / (most - 1)
    return [front[round(i * step)] for i in range(most)]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
