"""Reading `study.json`: the record that it becomes, and what is said about a file that is wrong."""

import json
import math
from pathlib import Path

import pytest

from quire.errors import StudyError
from quire.report.reasons import Box
from quire.report.results import Figure, SiteRecord, StudyResults

STUDY = Path(__file__).parents[2] / "data" / "study.json"


def data() -> dict:
    return json.loads(STUDY.read_text())


def test_load_reads_every_field():
    results = StudyResults.load(STUDY)
    assert results.name == "example <study>"
    assert results.objectives == {"loss": "min", "bits": "min"}
    assert results.limits == {"bits": 4.5}
    assert results.sites[1] == SiteRecord(
        "fc1.weight", "linear", "weight", (8, 8), 64, 64, "fc1.weight"
    )
    assert [trial.state for trial in results.trials].count("complete") == 6
    assert results.trial(6).plan == {"fc1.input": "mxint8", "fc1.weight": "mxfp4"}
    assert results.trial(0).uniform
    assert not results.trial(6).uniform
    assert results.front == (0, 6, 7)
    assert results.chosen == 6
    assert results.figures[1] == Figure("chosen plan", "test", {"accuracy": 0.961, "bits": 4.45})
    assert results.tensors[0].grid[-1] == 6.0


def test_optional_keys_may_be_missing():
    kept = ("quire_study", "name", "objectives", "sites", "trials")
    results = StudyResults.from_json({key: data()[key] for key in kept})
    assert results.limits == {}
    assert results.front == ()
    assert results.chosen is None
    assert results.tensors == ()


def test_metrics_that_are_not_finite_are_left_out():
    study = data()
    study["trials"][0]["metrics"] = {"loss": float("nan"), "bits": 4.25, "memory": float("inf")}
    assert StudyResults.from_json(study).trial(0).metrics == {"bits": 4.25}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quire_study": 2}, "'quire_study' is 2; this release reads 1"),
        ({"objectives": {}}, "'objectives' is empty"),
        ({"objectives": {"loss": "down"}}, "objective 'loss' is 'down'; legal: min, max"),
        ({"front": [99]}, "name trial 99, which is not among its 8 trials"),
        ({"chosen": 12}, "name trial 12"),
        ({"sites": 3}, "hold what they cannot: 'int' object is not iterable"),
        ({"trials": [3]}, "hold what they cannot"),
        ({"limits": {"bits": "few"}}, "hold what they cannot: could not convert string to float"),
        ({"sites": [{"shape": [2]}]}, "study 'example <study>' lack the key 'name'"),
        ({"trials": [{"number": 1, "plan": {}, "metrics": {}, "state": "lost"}]}, "'lost'; legal"),
    ],
)
def test_a_wrong_file_is_named(change: dict, message: str):
    with pytest.raises(StudyError, match=message.replace("(", r"\(")):
        StudyResults.from_json({**data(), **change})


def test_a_file_that_is_not_an_object(tmp_path: Path):
    path = tmp_path / "study.json"
    path.write_text("[1, 2]")
    with pytest.raises(StudyError, match="holds a list; a study file is one object"):
        StudyResults.load(path)
    for content in (b"{'a': 1}", b"\x93\xff\x00", b""):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=r"study\.json is not JSON"):
            StudyResults.load(path)
    path.write_text('{"version": 1, "entries": {}}')  # a plan
    with pytest.raises(StudyError, match=r"study\.json: no results of a search"):
        StudyResults.load(path)
    with pytest.raises(StudyError, match="cannot be read: Is a directory"):
        StudyResults.load(tmp_path)


def test_a_trial_that_does_not_exist():
    with pytest.raises(StudyError, match="has no trial 42; it has 8"):
        StudyResults.load(STUDY).trial(42)


EXPLAINED = STUDY.with_name("explained.json")


def test_load_reads_what_says_why():
    results = StudyResults.load(EXPLAINED)
    assert results.sensitivities is not None
    assert results.sensitivities.kind == "kl"
    assert results.sensitivities.values["layers.0.gate.weight"] == {
        "mxint4": 0.004,
        "mxint8": math.inf,
    }
    assert results.program is not None
    assert (results.program.loss, results.program.relaxed["bits"]) == (0.026, (5.25, 0.013))
    assert results.model is not None
    assert results.model.boxes[3] == Box("layers.0.mul", "mul", ())
    assert results.model.edges[2] == (1, 3, "silu")
    assert results.layers["head"] == {"LUT": 40.0, "DSP": 1.0}
    assert results.sites[4].bits == {"mxint4": 4.5, "mxint8": 8.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensitivities": {"kind": "kl"}}, "lack the key 'values'"),
        ({"sensitivities": 3}, "hold what they cannot: 'int' object is not subscriptable"),
        ({"program": {"loss": 1}}, "lack the key 'relaxed'"),
        ({"model": {"boxes": [], "edges": [[0, 1, ""]]}}, "an edge from box 0 to box 1 of 0"),
        ({"layers": {"fc1": {"LUT": "few"}}}, "could not convert string to float"),
    ],
)
def test_reasons_that_are_wrong_are_named(change: dict, message: str):
    data = json.loads(EXPLAINED.read_text())
    with pytest.raises(StudyError, match=message):
        StudyResults.from_json({**data, **change})
