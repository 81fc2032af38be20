"""Results: the best plan under bounds, the front, files, on hand-made trials."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from quire.errors import StudyError
from quire.explore import Study, Task, Trial, search, sensitivity
from quire.explore.objectives import Objectives
from quire.precision import Plan


def trial(number: int, accuracy: float, bits: float, format: str, **more: str) -> Trial:
    metrics = {"accuracy": accuracy, "bits": bits}
    return Trial(number, {"a": format, "b": "mxint4"}, metrics, **more)  # type: ignore[arg-type]


STUDY = Study(
    name="s",
    objectives=Objectives({"accuracy": "max", "bits": "min"}, {"bits": 6.0}),
    sites=({"name": "a"}, {"name": "b"}),
    trials=(
        Trial(0, {}, {"accuracy": 0.97, "bits": 32.0}, label="fp32"),
        trial(1, 0.90, 4.25, "mxint4", label="uniform mxint4"),
        trial(2, 0.95, 5.0, "mxint6"),
        trial(3, 0.95, 4.75, "mxint5"),
        trial(4, 0.96, 6.5, "mxint8"),
        Trial(5, {"a": "mxint2", "b": "mxint4"}, {"bits": 3.25}, "failed", error="E: no"),
        trial(6, 0.80, 4.5, "bfp(5,scale_bits=8,size=16)"),
    ),
    timing={},
)


def test_the_front_is_feasible_and_without_the_baseline() -> None:
    assert [t.number for t in STUDY.pareto()] == [3, 1]


def test_a_study_is_a_line() -> None:
    assert repr(STUDY) == "Study('s': 7 trials, 2 on the front, best trial 3)"
    assert repr(replace(STUDY, trials=STUDY.trials[:1])) == "Study('s': 1 trials, 0 on the front)"


def test_best_under_bounds() -> None:
    assert STUDY.best_trial().number == 3  # of equal accuracy the smaller one
    assert STUDY.best_trial(max_bits=4.5).number == 1
    assert STUDY.best_trial(max_bits=4.5, min_accuracy=0.85).number == 1
    assert STUDY.best(max_bits=4.5) == Plan({"a": "mxint4", "b": "mxint4"})
    with pytest.raises(StudyError, match="none of 4 feasible trials fits max_bits=4"):
        STUDY.best(max_bits=4)
    with pytest.raises(StudyError, match="'bits' is no bound"):
        STUDY.best(bits=4)
    with pytest.raises(StudyError, match=r"'max_size' is no bound.*accuracy, bits"):
        STUDY.best(max_size=4)


def test_bounds_are_numbers_and_pass_over_trials_without_the_metric() -> None:
    with pytest.raises(StudyError, match="max_bits='4': give a number"):
        STUDY.best(max_bits="4")  # type: ignore[arg-type]
    extra = replace(STUDY.trials[1], metrics={**STUDY.trials[1].metrics, "top5": 0.99})
    baseline = replace(STUDY.baseline, metrics={**STUDY.baseline.metrics, "top5": 1.0})
    study = replace(STUDY, trials=(baseline, extra, *STUDY.trials[2:]))
    assert study.best_trial(min_top5=0.9).number == 1


def test_what_failed_and_what_is_out_of_reach_is_told() -> None:
    failures = "1 failed, the first, trial 5, with E: no"
    assert STUDY.failures() == failures
    goal = Objectives({"bits": "min"}, {"accuracy": ">= 0.99", "bits": 4.0})
    study = replace(STUDY, objectives=goal)
    words = (
        f"no trial of 7 is complete and within the limits: {failures}; the best for "
        "accuracy >= 0.99 is 0.96; the best for bits <= 4 is 4.25"
    )
    assert study.shortfall() == words
    with pytest.raises(StudyError, match=r"the best for bits <= 4 is 4\.25"):
        study.best()
    alone = replace(study, trials=STUDY.trials[:1])
    assert alone.failures() == ""
    assert alone.shortfall().endswith("within the limits: only the fp32 model was run")


def test_families() -> None:
    assert [t.family for t in STUDY.trials] == ["fp32", *["mxint"] * 5, "mixed"]


def test_results_are_plain_data() -> None:
    results = STUDY.results()
    assert json.loads(json.dumps(results)) == results
    assert results["front"] == [3, 1]
    assert results["trials"][1] == {
        "number": 1,
        "label": "uniform mxint4",
        "family": "mxint",
        "state": "complete",
        "seconds": 0.0,
        "error": "",
        "metrics": {"accuracy": 0.9, "bits": 4.25},
        "plan": {"a": "mxint4", "b": "mxint4"},
    }


def test_csv_has_a_column_for_each_metric_and_site(tmp_path: Path) -> None:
    STUDY.save_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert rows[2] == {
        "number": "2", "label": "", "family": "mxint", "state": "complete", "seconds": "0.0",
        "error": "", "accuracy": "0.95", "bits": "5.0", "a": "mxint6", "b": "mxint4",
    }  # fmt: skip
    assert rows[5]["accuracy"] == ""
    assert rows[5]["error"] == "E: no"


def test_a_study_holds_what_says_why(task: Task, storage: str) -> None:
    study = search(
        task,
        ["mxint3", "mxint4", "mxint6"],
        {"error": "min", "bits": "min"},
        limits={"bits": 5.0},
        start="front",
        trials=12,
        storage=storage,
        progress=False,
    )
    again = Study.load("search", storage)
    assert again.results() == study.results()
    results = study.results()
    assert json.loads(json.dumps(results)) == results
    found = sensitivity(task, ["mxint3", "mxint4", "mxint6"], storage=storage, progress=False)
    assert results["sensitivities"] == found.to_json()
    assert results["program"]["relaxed"]["bits"]["bound"] == 5.25
    assert [box["name"] for box in results["model"]["boxes"]] == [
        *("input.input_1", "0", "2", "output.0")
    ]
    for trial in study.trials[1:]:  # what sites store adds up to what the trial says
        sites = [site for site in results["sites"] if "bits" in site]
        stored = sum(site["bits"][trial.formats[site["name"]]] * site["elements"] for site in sites)
        total = sum(site["elements"] for site in sites)
        assert stored / total == pytest.approx(trial.metrics["bits"], rel=1e-12)


def test_sensitivities_and_layers_can_be_handed_to_the_results(task: Task, storage: str) -> None:
    found = sensitivity(task, ["mxint4"], storage=storage, progress=False)
    results = STUDY.results(sensitivities=found, layers={"0": {"LUT": 12}})
    assert results["sensitivities"] == found.to_json()
    assert results["layers"] == {"0": {"LUT": 12}}
    plain = STUDY.results()
    assert plain.keys().isdisjoint({"sensitivities", "program", "model", "layers"})
