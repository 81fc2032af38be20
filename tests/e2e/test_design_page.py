"""The page of a design in a real browser: the dataflow, the timeline and the tables are drawn."""

import json
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from quire.report import design_page

DESIGN = json.loads((Path(__file__).parents[1] / "data" / "design.json").read_text())


@pytest.fixture(scope="module")
def browser(chrome: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> webdriver.Chrome:
    """The browser with the page of a design."""
    path = tmp_path_factory.mktemp("page") / "design.html"
    design_page(DESIGN, path)
    chrome.get(path.as_uri())
    WebDriverWait(chrome, 30).until(
        lambda chrome: chrome.find_elements(By.CSS_SELECTOR, "html[data-ready='true']")
    )
    return chrome


def test_every_stage_and_stream_is_drawn_apart(browser: webdriver.Chrome) -> None:
    boxes = browser.find_elements(By.CSS_SELECTOR, ".dataflow .stage")
    names = [stage["name"] for stage in DESIGN["stages"]]
    assert [box.get_attribute("data-stage") for box in boxes] == ["s_axis_x", *names, "m_axis_head"]
    places = [box.rect for box in boxes]
    assert all(place["width"] > 60 and place["height"] > 30 for place in places)
    for i, a in enumerate(places):
        for b in places[:i]:
            apart_x = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert apart_x or abs(a["y"] - b["y"]) > a["height"]
    streams = browser.find_elements(By.CSS_SELECTOR, ".dataflow .stream")
    drawn = {stream.get_attribute("data-stream") for stream in streams}
    assert drawn == {stream["name"] for stream in DESIGN["streams"]}


def test_the_tables_say_what_was_measured(browser: webdriver.Chrome) -> None:
    rows = browser.find_elements(By.CSS_SELECTOR, "#compared tbody tr")
    assert [row.text for row in rows][:2] == [
        "latency (cycles) 129 129",
        "interval (cycles a sample) 50 50",
    ]
    rows = browser.find_elements(By.CSS_SELECTOR, "#streams tbody tr")
    assert len(rows) == len(DESIGN["streams"])
    assert rows[0].text == "x fixed(16,12) 32 11 3 176 597 188"


def test_the_timeline_has_a_tick_for_each_beat(browser: webdriver.Chrome) -> None:
    counts = browser.execute_script(
        "return document.getElementById('timeline').data"
        ".filter((trace) => trace.type === 'scatter').map((trace) => trace.x.length)"
    )
    beats = sum(stream["beats"] for stream in DESIGN["streams"])
    assert counts == [beats] * 10  # five samples, measured and predicted
    bars = browser.find_elements(By.CSS_SELECTOR, "#timeline .bars .point")
    assert len(bars) == 10 * len(DESIGN["streams"])
    panels = browser.find_elements(By.CSS_SELECTOR, "#resources .bars")
    assert len(panels) == 8


def test_the_page_fits_windows_and_fetches_nothing(browser: webdriver.Chrome) -> None:
    for width in (1366, 1024, 700):
        browser.set_window_size(width, 900)
        WebDriverWait(browser, 10).until(
            lambda browser: browser.execute_script(
                "return document.documentElement.scrollWidth <= innerWidth"
            ),
            f"the page is wider than a window of {width} pixels",
        )
    browser.set_window_size(1366, 1000)
    assert browser.get_log("browser") == []
    sent = [entry["message"] for entry in browser.get_log("performance")]
    assert not [m for m in sent if "Network.requestWillBeSent" in m and '"url":"http' in m]
