"""The page of a design: what its script is given, the drawing, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from quire.errors import HardwareError
from quire.report import design_page
from quire.report.dataflow import dataflow
from quire.report.design import payload

DESIGN = json.loads((Path(__file__).parents[2] / "data" / "design.json").read_text())


def test_predicted_stands_beside_measured() -> None:
    rows = {
        what: (predicted, measured) for what, predicted, measured in payload(DESIGN)["compared"]
    }
    assert rows["latency (cycles)"] == (129, 129)
    layers = DESIGN["synthesis"]["layers"].values()
    assert rows["DSP"] == (95, sum(layer["DSP"] for layer in layers))
    assert "none differs" in payload(DESIGN)["summary"][1]


def test_what_was_not_measured_is_empty() -> None:
    data = payload({**DESIGN, "measured": None, "synthesis": None})
    assert all(measured is None for _, _, measured in data["compared"])
    assert len(data["summary"]) == 1
    assert {trace["name"] for trace in data["resources"]["data"]} == {"estimated"}
    assert data["streams"][0] == ["x", "fixed(16,12)", "32", 11, 3, 176, None, None]


def test_the_timeline_shows_measured_beats_above_predicted_ones() -> None:
    data = payload(DESIGN)["timeline"]["data"]
    above, below = (t for t in data if t["type"] == "bar" and t["name"] == "sample 1")
    place = [stream["name"] for stream in DESIGN["streams"]].index("up")
    for bars, times in (
        (above, DESIGN["measured"]["times"]["up"][1]),
        (below, DESIGN["streams"][place]["times"][1]),
    ):
        assert (bars["base"][place], bars["x"][place]) == (times[0], times[-1] + 1 - times[0])
    assert place - 0.5 < above["y"][place] < place < below["y"][place] < place + 0.5
    assert "measured" in above["hovertemplate"]
    assert "predicted" in below["hovertemplate"]


def test_the_timeline_without_a_simulation_is_the_prediction() -> None:
    data = payload({**DESIGN, "measured": None})["timeline"]["data"]
    bars = [trace for trace in data if trace["type"] == "bar"]
    assert [trace["name"] for trace in bars] == [f"sample {i}" for i in range(5)]
    assert all("predicted" in trace["hovertemplate"] for trace in bars)
    assert bars[0]["base"] == [stream["times"][0][0] for stream in DESIGN["streams"]]


def _centres(svg: str) -> dict[str, tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    found: dict[str, tuple[float, float]] = {}
    for group in root.iter("g"):
        box = group.find("rect")
        if "data-stage" in group.attrib and box is not None:
            x, width = float(box.attrib["x"]), float(box.attrib["width"])
            found[group.attrib["data-stage"]] = (x + width / 2, float(box.attrib["y"]))
    return found


def test_streams_lead_downwards() -> None:
    """Every stage stands below those that it reads, and side by side branches do not overlap."""
    centres = _centres(dataflow(DESIGN))
    writers = {name: stage["name"] for stage in DESIGN["stages"] for name in stage["writes"]}
    writers |= {name: f"s_axis_{name}" for name in DESIGN["inputs"]}
    for stage in DESIGN["stages"]:
        for name in stage["reads"]:
            assert centres[stage["name"]][1] > centres[writers[name]][1]
    assert centres["up__input"][1] == centres["x__fork_1__fifo"][1]
    assert abs(centres["up__input"][0] - centres["x__fork_1__fifo"][0]) > 130


def test_names_are_escaped_in_the_drawing_and_in_the_page(tmp_path: Path) -> None:
    hostile: dict[str, Any] = json.loads(json.dumps(DESIGN).replace("up__input", "</script><b>"))
    hostile["streams"][0]["bits"] = "<b>8</b>"
    assert "<b>" not in dataflow(hostile)
    design_page(hostile, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert re.search(r"</script>\s*<b>", text) is None


def test_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="has version None: a page needs 2"):
        design_page({"name": "top"}, tmp_path / "page.html")
