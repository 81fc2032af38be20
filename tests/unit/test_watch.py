"""What the view of a running study says, on hand-made studies."""

from dataclasses import replace

import pytest
from rich.console import Console

from quire.cli import watch
from quire.cli.watch import MOST_ROWS, QUIET, WINDOW, Pace, view
from quire.errors import StudyError
from quire.explore import Study, Trial
from quire.explore.objectives import Objectives

BASELINE = Trial(0, {}, {"loss": 0.0, "bits": 32.0}, label="fp32")
STUDY = Study(
    name="s",
    objectives=Objectives({"loss": "min", "bits": "min"}, {"bits": 6.0}),
    sites=({"name": "a"},),
    trials=(
        BASELINE,
        *(Trial(n, {"a": "mxint4"}, {"loss": 1 / n, "bits": n / 8}) for n in range(1, 41)),
        Trial(41, {"a": "mxint4"}, {"bits": 4.0}, "failed", error="E: no"),
    ),
    timing={},
)


def said(study: Study, total: int, pace: Pace) -> list[str]:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(view(study, total, pace))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def paced(*looks: tuple[float, int]) -> Pace:
    pace = Pace()
    for now, trials in looks:
        pace.add(now, trials)
    return pace


def test_the_view_counts_trials_failures_and_time() -> None:
    lines = said(STUDY, 102, paced((0.0, 22), (10.0, 42)))
    assert lines[0].startswith("s ")
    assert lines[0].endswith("42 of 102 trials · 2.0/s · 0:30 left")
    assert lines[1:4] == [
        "best loss 0.025 · bits 5 · trial 40",
        "fp32 loss 0 · bits 32 · trial 0",
        "1 failed, the first, trial 41, with E: no",
    ]


def test_the_view_shows_a_front_from_end_to_end() -> None:
    lines = said(STUDY, 42, paced((0.0, 42)))
    rows = [line.split() for line in lines if line.replace(".", "").replace(" ", "").isdigit()]
    assert len(rows) == MOST_ROWS
    assert rows[0] == ["40", "0.025", "5"]
    assert rows[-1] == ["1", "1", "0.125"]


def test_a_study_without_a_plan_within_the_limits_says_so() -> None:
    lines = said(replace(STUDY, trials=STUDY.trials[:1]), 5, paced((0.0, 1)))
    assert "within the limits: only the fp32 model was run" in " ".join(lines)


def test_a_study_that_was_made_just_now_is_shown() -> None:
    lines = said(replace(STUDY, trials=()), 5, paced((0.0, 0)))
    assert lines[0].endswith("0 of 5 trials")
    assert not any(line.startswith("fp32") for line in lines)


def test_a_study_that_stands_still_says_so() -> None:
    pace = paced((0.0, 3), (QUIET + 5, 3))
    assert "no trial for 1:05" in said(STUDY, 100, pace)[0]
    assert pace.rate == 0.0


class Shaky:
    """A watch that fails so many times before it gives the study."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def look(self) -> Study:
        self.failures -= 1
        if self.failures >= 0:
            raise StudyError("the database is locked")
        return STUDY


def test_a_look_is_tried_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    assert watch._look(Shaky(watch.TRIES)) is STUDY  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="the database is locked"):
        watch._look(Shaky(watch.TRIES + 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("looks", "rate"),
    [
        ([(0.0, 4)], 0.0),
        ([(0.0, 4), (2.0, 8)], 2.0),
        ([(0.0, 0), (1.0, 100), (1.0 + WINDOW, 100), (2.0 + WINDOW, 130)], 30.0),
    ],
)
def test_the_rate_is_that_of_the_last_minute(looks: list[tuple[float, int]], rate: float) -> None:
    assert paced(*looks).rate == rate
