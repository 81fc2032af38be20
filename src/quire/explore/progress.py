"""The progress lines of a search: trials, the best so far, rate, time left; and of its stages."""

from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from quire.explore.objectives import Objectives
from quire.explore.trial import Trial

Shown = TypeVar("Shown", bound="_Line")


class _Line:
    """A context manager that shows a line of progress on standard error: a bar, a count, `more`,
    the rate, the time left."""

    def __init__(self, on: bool, *more: ProgressColumn) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            *more,
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            disable=not on,
        )

    def __enter__(self: Shown) -> Shown:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, message: str) -> None:
        """Print a message above the line."""
        self._progress.console.print(message, highlight=False, markup=False)


class SearchProgress(_Line):
    """The line of a search; `show` redraws it after a trial.

    earlier: the trials that the study has already, the baseline among them.
    """

    def __init__(
        self, name: str, earlier: Sequence[Trial], total: int, objectives: Objectives, on: bool
    ) -> None:
        super().__init__(on, TextColumn("{task.fields[best]}", markup=False))
        self._objectives = objectives
        self._best: Trial | None = None
        done = len(earlier)
        self._bar = self._progress.add_task(name, total=max(total, done), completed=done, best="")
        for trial in earlier:
            self._compare(trial)
        self._progress.update(self._bar, best=self._describe())

    def show(self, trial: Trial) -> None:
        """Count a trial."""
        self._compare(trial)
        self._progress.update(self._bar, advance=1, best=self._describe())

    def _compare(self, trial: Trial) -> None:
        """Take a trial as the best if it is; the fp32 model is no plan."""
        if trial.formats and trial.state == "complete" and self._objectives.admits(trial.metrics):
            candidates = [self._best, trial] if self._best else [trial]
            self._best = min(candidates, key=lambda t: self._objectives.losses(t.metrics))

    def _describe(self) -> str:
        if self._best is None:
            return ""
        metrics = self._best.metrics
        return "best " + " ".join(f"{m} {metrics[m]:.4g}" for m in self._objectives.directions)


class StageProgress(_Line):
    """The line of a stage of `total` steps; after Ctrl-C it says what is kept."""

    def __init__(self, name: str, total: int, on: bool) -> None:
        super().__init__(on)
        self._name, self._total, self._done = name, total, 0
        self._bar = self._progress.add_task(name, total=total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            self.say(
                f"{self._name}: {self._done} of {self._total} are kept; the same call goes on."
            )

    def advance(self, steps: int = 1) -> None:
        """Count steps."""
        self._done += steps
        self._progress.update(self._bar, advance=steps)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")
