"""The plots of a page: the numbers that they draw."""

import dataclasses
import math
from pathlib import Path

import pytest

from quire.report.distribution import distribution
from quire.report.figures import axes, scale, short, title, views
from quire.report.front import front
from quire.report.progress import progress
from quire.report.results import StudyResults, TensorRecord

RESULTS = StudyResults.load(Path(__file__).parents[2] / "data" / "study.json")


def trace(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_front_draws_each_completed_trial_once_beside_the_baseline():
    figure = front(RESULTS)
    assert trace(figure, "trials")["customdata"] == [3]
    assert trace(figure, "front")["customdata"] == [0, 6, 7]
    assert trace(figure, "front")["x"] == [4.25, 4.45, 6.0]
    assert trace(figure, "front")["y"] == [0.3, 0.2, 0.05]
    assert trace(figure, "uniform formats")["customdata"] == [0, 1]
    assert trace(figure, "uniform formats")["text"] == ["mxint4", "mxint8"]
    assert trace(figure, "chosen plan")["customdata"] == [6]


def test_front_marks_the_limit_and_the_height_of_fp32():
    figure = front(RESULTS)
    limit, baseline = figure["layout"]["shapes"]
    assert (limit["x0"], limit["x1"]) == (4.5, 4.5)
    assert (baseline["y0"], baseline["y1"]) == (0.09, 0.09)
    words = {note["text"]: note for note in figure["layout"]["annotations"]}
    assert words["limit 4.5"]["x"] == 4.5
    assert words["fp32"]["y"] == pytest.approx(math.log10(0.09))


@pytest.mark.parametrize(("loss", "drawn"), [(0.0, False), (1e-9, False), (0.002, True)])
def test_front_draws_fp32_where_it_is_near_enough(loss: float, drawn: bool):
    baseline = next(t for t in RESULTS.trials if t.baseline)
    other = dataclasses.replace(baseline, metrics={**baseline.metrics, "loss": loss})
    trials = tuple(other if t is baseline else t for t in RESULTS.trials)
    layout = front(dataclasses.replace(RESULTS, trials=trials))["layout"]
    assert layout["yaxis"]["type"] == "log"
    assert ("fp32" in [note["text"] for note in layout["annotations"]]) == drawn


def test_front_draws_fp32_though_it_has_no_place_across():
    baseline = next(t for t in RESULTS.trials if t.baseline)
    other = dataclasses.replace(baseline, metrics={"loss": 0.09})  # no circuit, so no area
    trials = tuple(other if t is baseline else t for t in RESULTS.trials)
    layout = front(dataclasses.replace(RESULTS, trials=trials))["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["limit 4.5", "fp32"]


def test_front_is_linear_where_a_limit_is_zero():
    limits = {"bits": 4.5, "loss": 0.0}
    layout = front(dataclasses.replace(RESULTS, limits=limits))["layout"]
    assert layout["yaxis"]["type"] == "linear"
    assert next(n for n in layout["annotations"] if n["text"] == "limit 0")["y"] == 0.0


def test_front_says_which_way_is_better():
    layout = front(RESULTS)["layout"]
    assert layout["xaxis"]["title"]["text"] == "average bits per value · lower is better"
    assert layout["yaxis"]["title"]["text"] == "loss · lower is better"


def test_a_single_objective_is_drawn_against_bits():
    results = dataclasses.replace(RESULTS, objectives={"accuracy": "max"})
    assert axes(results) == ("bits", "accuracy")
    assert title(results, "bits") == "average bits per value"
    assert title(results, "accuracy") == "accuracy · higher is better"


def three_objectives() -> StudyResults:
    """Each of the trials on the front is the best in one of three metrics."""
    memory = {0: 9.0, 6: 2.0, 7: 3.0}
    trials = tuple(
        dataclasses.replace(t, metrics={**t.metrics, "memory": memory.get(t.number, 20.0)})
        for t in RESULTS.trials
    )
    goals = {"loss": "min", "bits": "min", "memory": "min"}
    return dataclasses.replace(RESULTS, objectives=goals, trials=trials)


def test_three_objectives_give_three_pairs_of_axes():
    drawn = views(three_objectives())
    assert [axes(view) for view in drawn] == [
        ("bits", "loss"),
        ("memory", "loss"),
        ("memory", "bits"),
    ]
    assert {tuple(sorted(view.objectives)) for view in drawn} == {("bits", "loss", "memory")}
    assert [axes(view) for view in views(RESULTS)] == [("bits", "loss")]


def test_a_trial_without_one_of_the_objectives_is_on_no_axes():
    results = three_objectives()
    first, *rest = results.trials
    bare = {metric: value for metric, value in first.metrics.items() if metric != "memory"}
    cut = dataclasses.replace(results, trials=(dataclasses.replace(first, metrics=bare), *rest))
    for view, whole in zip(views(cut), views(results), strict=True):
        found, before = (
            {n for part in front(v)["data"] for n in part.get("customdata", ())}
            for v in (view, whole)
        )
        assert before - found == {first.number}


def test_the_line_of_a_front_joins_the_best_on_its_axes():
    _, memory, _ = (front(view) for view in views(three_objectives()))
    assert trace(memory, "front")["customdata"] == [6, 7, 0]
    assert trace(memory, "front's line")["x"] == [2.0, 3.0]
    assert trace(memory, "front's line")["y"] == [0.2, 0.05]


def test_progress_counts_runs_of_a_family_and_keeps_the_best_within_limits():
    figure = progress(RESULTS)
    mixed = trace(figure, "mixed")
    # Runs 3, 4 (failed), 6 and 7 (beyond the limit of 4.5 bits); the pruned one cost nothing.
    assert mixed["x"] == [1, 2, 3, 4]
    assert mixed["y"] == [0.5, 0.5, 0.2, 0.2]
    assert trace(figure, "mxint")["y"] == [0.3, 0.3]
    assert [curve["name"] for curve in figure["data"]] == ["mixed", "mxint"]


def test_progress_of_a_metric_to_maximise_obeys_a_lower_bound():
    results = dataclasses.replace(RESULTS, objectives={"loss": "max"}, limits={"loss": 0.1})
    assert trace(progress(results), "mixed")["y"] == [0.5, 0.5, 0.5, 0.5]
    results = dataclasses.replace(RESULTS, objectives={"loss": "max"}, limits={"loss": 0.6})
    assert [curve["name"] for curve in progress(results)["data"]] == []
    results = dataclasses.replace(RESULTS, limits={"loss": 0.1}, lower=("loss",))
    assert trace(progress(results), "mixed")["y"] == [0.5, 0.5, 0.2, 0.2]
    results = dataclasses.replace(RESULTS, limits={"loss": 0.6}, lower=("loss",))
    assert [curve["name"] for curve in progress(results)["data"]] == []


def test_progress_of_one_family_is_one_curve_of_all_trials():
    trials = tuple(trial for trial in RESULTS.trials if trial.number != 1)
    results = dataclasses.replace(RESULTS, trials=trials)
    (curve,) = progress(results)["data"]
    assert curve["name"] == "all trials"
    assert curve["x"] == [1, 2, 3, 4, 5]
    assert curve["y"] == [0.3, 0.3, 0.3, 0.2, 0.2]


def test_distribution_is_a_density_over_the_grid():
    tensor = TensorRecord("fc1.weight", "mxint4", (0.0, 0.0, 0.5, 1.0), (-1.0, 0.0, 1.0))
    figure = distribution(tensor)
    bars = trace(figure, "fc1.weight")
    assert sum(bars["y"]) * bars["width"] == pytest.approx(1.0)
    assert bars["y"][0] == pytest.approx(2 * bars["y"][-1])
    assert trace(figure, "values of mxint4")["x"] == [-1.0, 0.0, 1.0]


def test_distribution_of_equal_elements():
    bars = trace(distribution(TensorRecord("w", "mxint4", (2.0, 2.0), (0.0,))), "w")
    assert sum(bars["y"]) * bars["width"] == pytest.approx(1.0)


@pytest.mark.parametrize("values", [(), (math.nan, math.inf)])
def test_distribution_without_finite_elements_has_no_bars(values: tuple[float, ...]):
    figure = distribution(TensorRecord("w", "mxint4", values, (0.0,)))
    assert trace(figure, "w")["y"] == []
    assert trace(figure, "values of mxint4")["x"] == [0.0]


@pytest.mark.parametrize("values", [(1.0, 1.0 + 2**-52), (5e-324, 0.0), (-3.4e38, -3.4e38)])
def test_distribution_of_elements_that_no_bins_part(values: tuple[float, ...]):
    bars = trace(distribution(TensorRecord("w", "mxint4", values, (0.0,))), "w")
    assert sum(bars["y"]) * bars["width"] == pytest.approx(1.0)


def test_scale_is_logarithmic_where_values_span_much():
    assert scale([1.0, 2.0]) == {"type": "linear"}
    assert scale([0.0, 9.0]) == {"type": "linear"}
    assert scale([0.2, 2.0])["ticktext"][:6] == ["0.1", "0.2", "0.3", "0.5", "0.7", "1"]
    assert scale([1.0, 1e5])["tickvals"] == [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]


def test_short_leaves_out_the_names_of_parameters():
    assert short("bfp(4,scale_bits=8,size=16)") == "bfp(4,8,16)"
    assert short("mxint4") == "mxint4"
