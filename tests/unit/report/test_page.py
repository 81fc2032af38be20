"""The page as a file: what its script is given, and that it stands alone."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from quire.errors import StudyError
from quire.report import StudyResults, page
from quire.report.page import payload

RESULTS = StudyResults.load(Path(__file__).parents[2] / "data" / "study.json")


def test_payload_holds_each_plan_by_format_index():
    data = payload(RESULTS)
    names = [entry["name"] for entry in data["formats"]]
    assert [site["name"] for site in data["sites"]] == ["fc1.input", "fc1.weight"]
    plans = {trial["number"]: [names[index] for index in trial["plan"]] for trial in data["trials"]}
    assert plans[6] == ["mxint8", "mxfp4"]
    assert plans[3] == ["bfp(4,scale_bits=8,size=16)", "mxint4"]
    assert sorted(plans) == [0, 1, 2, 3, 6, 7]


def test_formats_are_listed_from_narrow_to_wide():
    bits = {entry["name"]: entry["bits"] for entry in payload(RESULTS)["formats"]}
    assert list(bits) == [
        "mxfp4",
        "mxint4",
        "bfp(4,scale_bits=8,size=16)",
        "mxfp6_e2m3",
        "mxint8",
    ]
    assert list(bits.values()) == [4.25, 4.25, 4.5, 6.25, 8.25]


def test_counts_and_errors():
    data = payload(RESULTS)
    assert data["counts"] == {"complete": 6, "pruned": 1, "failed": 1}
    assert data["errors"] == [{"number": 4, "error": "evaluate raised ZeroDivisionError"}]


@pytest.mark.parametrize(
    ("chosen", "front", "shown"), [(6, (0,), 6), (None, (7, 0), 7), (None, (), 0)]
)
def test_the_plan_that_is_shown_first(chosen: int | None, front: tuple, shown: int):
    results = dataclasses.replace(RESULTS, chosen=chosen, front=front)
    data = payload(results)
    assert (data["chosen"], data["shown"]) == (chosen, shown)


def test_a_plan_is_shown_before_the_fp32_model():
    first = dataclasses.replace(RESULTS.trial(0), label="fp32", plan={})
    results = dataclasses.replace(
        RESULTS, chosen=None, front=(), trials=(first, *RESULTS.trials[1:])
    )
    assert payload(results)["shown"] == 1


def test_page_is_one_file_whose_data_cannot_end_its_script(tmp_path: Path):
    path = tmp_path / "page.html"
    page(RESULTS, path)
    text = path.read_text(encoding="utf-8")
    assert "<title>example &lt;study&gt; · Quire</title>" in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", text)
    embedded = re.search(r'id="results">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    assert "<" not in embedded[1]
    assert json.loads(embedded[1])["name"] == "example <study>"


def test_a_study_without_a_completed_trial_has_no_page(tmp_path: Path):
    failed = tuple(trial for trial in RESULTS.trials if trial.state != "complete")
    results = dataclasses.replace(RESULTS, trials=failed, front=(), chosen=None)
    with pytest.raises(StudyError, match="no completed trial with bits and loss"):
        page(results, tmp_path / "page.html")
