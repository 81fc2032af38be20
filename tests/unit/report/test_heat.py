"""The heat map of sensitivities, and the limits beside it: their numbers."""

import dataclasses
import math
from pathlib import Path

from quire.report import StudyResults
from quire.report.heat import DECADES, columns, heat
from quire.report.limits import limit_rows
from quire.report.page import payload
from quire.report.reasons import Sensitivities

RESULTS = StudyResults.load(Path(__file__).parents[2] / "data" / "explained.json")
assert RESULTS.sensitivities is not None
FOUND: Sensitivities = RESULTS.sensitivities


def test_each_cell_is_the_logarithm_of_a_sensitivity() -> None:
    cells, marks = heat(RESULTS, FOUND, {"mxint4": "mxint4", "mxint8": "mxint8"})["data"]
    low, high = -4.0, math.log10(0.02)
    assert (cells["zmin"], cells["zmax"]) == (low, high)
    assert cells["z"] == [
        [math.log10(0.008), math.log10(0.0009)],  # head.weight, from the bottom upwards
        [math.log10(0.001), None],
        [math.log10(0.004), high],  # the outputs were not finite
        [high, low],  # a zero
        [-2.0, low],
    ]
    assert cells["text"][2][1].endswith("mxint8: the outputs are not finite")
    assert cells["text"][4][0] == "<b>layers.0.fc1.input</b><br>mxint4: kl 0.01"
    assert (marks["x"], marks["y"]) == ([], [])


def test_the_scale_ends_some_decades_below_the_largest() -> None:
    wide = Sensitivities("kl", "", {"head.input": {"mxint4": 1.0, "mxint8": 1e-30}})
    cells = heat(RESULTS, wide, {"mxint4": "mxint4", "mxint8": "mxint8"})["data"][0]
    assert cells["zmin"] == -DECADES
    assert cells["z"] == [[0.0, -DECADES]]


def test_fitted_formats_share_a_column() -> None:
    formats = ["fixed(3,1)", "fixed(3,2)", "ufixed(3,1)", "mxint4"]
    found = Sensitivities("kl", "", {"a": {"fixed(3,1)": 1.0}, "b": {"fixed(3,2)": 2.0}})
    assert columns(found, formats) == {
        "fixed(3,1)": "fixed(3,·)",
        "fixed(3,2)": "fixed(3,·)",
        "ufixed(3,1)": "ufixed(3,·)",
        "mxint4": "mxint4",
    }
    both = Sensitivities("kl", "", {"a": {"fixed(3,1)": 1.0, "fixed(3,2)": 2.0}})
    assert list(columns(both, formats).values())[:2] == ["fixed(3,1)", "fixed(3,2)"]


def test_the_page_is_given_columns_by_format_and_rows_by_site() -> None:
    data = payload(RESULTS)
    assert data["heat"]["columns"] == [0, 1]
    assert data["heat"]["sites"] == [
        "head.weight",
        "head.input",
        "layers.0.gate.weight",
        "layers.0.fc1.weight",
        "layers.0.fc1.input",
    ]
    places = {site["name"]: (site["layer"], site["block"]) for site in data["sites"]}
    assert places["layers.0.fc1.input"] == ("layers.0.fc1", "layers.0")
    assert places["head.weight"] == ("head", "head")
    bits = {site["name"]: site["bits"] for site in data["sites"]}
    assert bits["head.input"] == [4.5, 8.5]
    assert bits["layers.0.gate.input"] == [4.25, 8.25]  # on long rows, as the study does not say


def test_limits_say_what_a_wider_one_would_buy() -> None:
    assert limit_rows(RESULTS) == [
        {"metric": "bits", "bound": 5.0, "lower": False, "wider": 5.25, "gain": 0.5},
        {"metric": "memory", "bound": 1000.0, "lower": False, "wider": 1050.0, "gain": 0.0},
    ]
    unknown = dataclasses.replace(RESULTS, program=None)
    assert [row["gain"] for row in limit_rows(unknown)] == [None, None]


def test_corrections_of_an_entry_do_not_change_its_bits() -> None:
    plan = {**RESULTS.trial(2).plan, "head.weight": "mxint8+gptq"}
    trials = (*RESULTS.trials[:2], dataclasses.replace(RESULTS.trial(2), plan=plan))
    data = payload(dataclasses.replace(RESULTS, trials=trials, front=(), chosen=None))
    bits = {entry["name"]: entry["bits"] for entry in data["formats"]}
    assert bits["mxint8+gptq"] == bits["mxint8"] == 8.25
