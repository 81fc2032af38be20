"""Predicted against true loss: sums, what is left out, the rank correlation."""

import dataclasses
from pathlib import Path

import pytest

from quire.report import StudyResults
from quire.report.prediction import pairs, prediction, rank_correlation

RESULTS = StudyResults.load(Path(__file__).parents[2] / "data" / "explained.json")


def trace(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_a_plan_is_predicted_by_the_sum_of_its_choices() -> None:
    assert RESULTS.sensitivities is not None
    found = {p.trial.number: (p.predicted, p.lost) for p in pairs(RESULTS, RESULTS.sensitivities)}
    assert found.keys() == {1, 2, 3, 4}  # of trial 5 a choice was not measured
    assert found[1] == pytest.approx((0.01 + 0.02 + 0.004 + 0.001 + 0.008, 0.05))
    assert found[2] == pytest.approx((0.0001 + 0.02 + 0.004 + 0.001 + 0.0009, 0.02))


def test_the_plot_has_a_point_a_plan_and_the_line_of_equality() -> None:
    drawn = prediction(RESULTS)
    assert drawn is not None
    assert trace(drawn["plot"], "plans")["customdata"] == [2, 3, 4]
    assert trace(drawn["plot"], "uniform")["customdata"] == [1]
    line = trace(drawn["plot"], "equal")
    assert line["x"] == line["y"] == pytest.approx([0.026, 0.043])
    assert drawn["note"] == (
        "Rank correlation 1.00 over 4 plans. On the dotted line both are equal. "
        "Not predicted: 1, with choices that were not measured alone."
    )


def test_the_loss_is_that_above_fp32() -> None:
    worse = tuple(
        dataclasses.replace(trial, metrics={**trial.metrics, "kl": trial.metrics["kl"] + 1.0})
        for trial in RESULTS.trials
    )
    drawn = prediction(dataclasses.replace(RESULTS, trials=worse))
    assert drawn is not None
    assert trace(drawn["plot"], "plans")["y"] == pytest.approx([0.02, 0.03, 0.04])


def test_a_plan_that_is_no_worse_than_fp32_is_counted_only() -> None:
    better = dataclasses.replace(RESULTS.trial(4), metrics={"kl": -0.01, "bits": 4.6})
    trials = tuple(better if t.number == 4 else t for t in RESULTS.trials)
    drawn = prediction(dataclasses.replace(RESULTS, trials=trials))
    assert drawn is not None
    assert trace(drawn["plot"], "plans")["customdata"] == [2, 3]
    assert "Not on this scale: 1 no worse than fp32." in drawn["note"]


def test_accuracy_has_no_line_of_equality() -> None:
    trials = tuple(
        dataclasses.replace(t, metrics={"accuracy": 1 - t.metrics["kl"], "bits": t.metrics["bits"]})
        for t in RESULTS.trials
    )
    goals = {"accuracy": "max", "bits": "min"}
    drawn = prediction(dataclasses.replace(RESULTS, objectives=goals, trials=trials))
    assert drawn is not None
    assert [trace["name"] for trace in drawn["plot"]["data"]] == ["plans", "uniform", "selected"]
    assert trace(drawn["plot"], "plans")["y"] == pytest.approx([0.02, 0.03, 0.04])
    assert "dotted" not in drawn["note"]


def test_too_few_plans_are_no_plot() -> None:
    assert prediction(dataclasses.replace(RESULTS, trials=RESULTS.trials[:3], front=())) is None
    assert prediction(dataclasses.replace(RESULTS, sensitivities=None)) is None


@pytest.mark.parametrize(
    ("a", "b", "correlation"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 1, 2, 2], [5, 5, 7, 7], 1.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),  # 1 - 6 sum d^2 / (n (n^2 - 1))
        ([1, 1, 1], [1, 2, 3], 0.0),
    ],
)
def test_rank_correlation(a: list[float], b: list[float], correlation: float) -> None:
    assert rank_correlation(a, b) == pytest.approx(correlation)
