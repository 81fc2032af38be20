"""Objectives and limits: signs, bounds, the Pareto front against the definition."""

import itertools
import math
import random

import pytest

from quire.errors import StudyError
from quire.explore.objectives import Objectives, pareto_front

GOAL = Objectives({"accuracy": "max", "bits": "min"}, {"bits": 4.0, "accuracy": 0.9, "time": 2.0})


def test_losses_are_lower_for_better() -> None:
    assert GOAL.losses({"accuracy": 0.95, "bits": 4.25}) == (-0.95, 4.25)
    assert GOAL.values({"accuracy": 0.95, "bits": 4.25}) == [0.95, 4.25]


def test_a_limit_is_a_lower_one_for_a_maximised_metric_and_an_upper_one_for_others() -> None:
    assert GOAL.admits({"accuracy": 0.9, "bits": 4.0, "time": 2.0})
    assert not GOAL.admits({"accuracy": 0.89, "bits": 4.0, "time": 2.0})
    assert not GOAL.admits({"accuracy": 0.9, "bits": 4.01, "time": 2.0})
    assert not GOAL.admits({"accuracy": 0.9, "bits": 4.0, "time": 2.1})


def test_limits_on_metrics_that_are_not_known_yet_do_not_count() -> None:
    assert GOAL.excess({"bits": 5.0}) == {"bits": 1.0}


def test_unknown_metrics_are_errors() -> None:
    with pytest.raises(StudyError, match=r"limit 'time' is no metric .* accuracy, bits"):
        GOAL.check_metrics(["bits", "accuracy"], ["bits"])
    with pytest.raises(StudyError, match="objective 'accuracy' is no metric"):
        GOAL.check_metrics(["bits", "time"], ["bits"])


def test_directions_are_min_or_max() -> None:
    with pytest.raises(StudyError, match="'loss' is 'down'"):
        Objectives({"loss": "down"}, {})
    with pytest.raises(StudyError, match="needs an objective"):
        Objectives({}, {})


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pareto_front_is_what_nothing_dominates(dimensions: int) -> None:
    rng = random.Random(dimensions)
    points = [tuple(float(rng.randrange(6)) for _ in range(dimensions)) for _ in range(60)]

    def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    expected = {p for p in points if not any(dominates(q, p) for q in points)}
    front = pareto_front(points, points)
    assert set(front) == expected
    assert len(front) == len(expected)  # equal points once
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(front))


@pytest.mark.parametrize("bound", ["4", ">= four", "> 4", ">= nan", math.nan, None])
def test_a_limit_is_a_number(bound: float) -> None:
    with pytest.raises(StudyError, match=r'limit \'bits\' is .*: give a number, or ">= number"'):
        Objectives({"loss": "min"}, {"bits": bound})


def test_a_limit_on_a_measured_metric_needs_its_direction() -> None:
    goal = Objectives({"bits": "min"}, {"accuracy": 0.8})
    with pytest.raises(StudyError, match=r"limit 'accuracy': nothing says .* write \">= 0.8\" or"):
        goal.check_metrics(["accuracy", "bits"], ["bits"])


def test_a_limit_in_words_says_which_side_is_meant() -> None:
    goal = Objectives({"bits": "min"}, {"accuracy": ">= 0.8", "loss": "<=.5", "bits": 4})
    goal.check_metrics(["accuracy", "bits", "loss"], ["bits"])
    assert goal.bounds == {"accuracy": 0.8, "loss": 0.5, "bits": 4.0}
    assert goal.lower == ["accuracy"]
    assert goal.excess({"accuracy": 0.75, "loss": 0.25, "bits": 4.0}) == {
        "accuracy": pytest.approx(0.05),
        "loss": -0.25,
        "bits": 0.0,
    }
