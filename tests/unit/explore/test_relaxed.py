"""What limits cost: losses of the integer program, of which all plans are counted here."""

import itertools
import math

import pytest

from quire.explore import Sensitivities, Task, sensitivity
from quire.explore.relaxed import SHARE, relaxed

FORMATS = ["mxint3", "mxint4", "mxint6"]


@pytest.fixture
def found(task: Task, storage: str) -> Sensitivities:
    return sensitivity(task, FORMATS, storage=storage, prune=(), progress=False)


def least(found: Sensitivities, bound: float) -> float:
    """The least sum of sensitivities of all plans of at most so many bits."""
    space, values = found.space, found.matrix(found.space)
    totals = [
        math.fsum(row[i] for row, i in zip(values, genome, strict=True))
        for genome in itertools.product(*(range(len(g.candidates)) for g in space.groups))
        if found.tables.of(genome)["bits"] <= bound
    ]
    return min(totals)


def test_a_wider_limit_is_worth_what_the_best_plan_within_it_saves(found: Sensitivities) -> None:
    bound = 4.2
    what = relaxed(found.program(), {"bits": bound})
    assert what["loss"] == pytest.approx(least(found, bound), rel=1e-9)
    wider = bound * (1 + SHARE)
    assert what["relaxed"]["bits"]["bound"] == wider
    assert what["relaxed"]["bits"]["loss"] == pytest.approx(least(found, wider), rel=1e-9)
    assert what["relaxed"]["bits"]["loss"] < what["loss"]


def test_of_two_limits_the_one_that_does_not_bind_is_worth_nothing(found: Sensitivities) -> None:
    what = relaxed(found.program(), {"bits": 4.2, "memory": 1e9})
    assert what["relaxed"]["memory"]["loss"] == pytest.approx(what["loss"])
    assert what["relaxed"]["bits"]["loss"] < what["loss"]


def test_nothing_is_said_without_limits_or_of_limits_beyond_reach(found: Sensitivities) -> None:
    assert relaxed(found.program(), {}) == {}
    assert relaxed(found.program(), {"bits": 1.0}) == {}
