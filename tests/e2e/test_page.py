"""The page of a study in a real browser: a click on the front shows the plan of that point."""

import dataclasses
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from quire.report import StudyResults, page

# Where the points of a trace lie on the screen, from Plotly's own axes.
WHERE = """
const plot = document.getElementById("front");
const axes = plot._fullLayout, box = plot.getBoundingClientRect();
const trace = plot.data.find((trace) => trace.name === arguments[0]);
const at = trace.customdata.indexOf(arguments[1]);
return [box.left + axes.xaxis._offset + axes.xaxis.d2p(trace.x[at]),
        box.top + axes.yaxis._offset + axes.yaxis.d2p(trace.y[at])];
"""


@pytest.fixture(scope="module")
def browser(chrome: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> webdriver.Chrome:
    """The browser with the page of a study."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    page(StudyResults.load(Path(__file__).parents[1] / "data" / "study.json"), path)
    chrome.get(path.as_uri())
    WebDriverWait(chrome, 30).until(
        lambda chrome: chrome.find_elements(By.CSS_SELECTOR, "html[data-ready='true']")
    )
    return chrome


def click(browser: webdriver.Chrome, trace: str, trial: int) -> None:
    """A real mouse click on the point of a trial."""
    browser.execute_script("window.scrollTo(0, 0)")
    x, y = browser.execute_script(WHERE, trace, trial)
    actions = ActionChains(browser, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.pause(0.3).click().perform()


def shown_plan(browser: webdriver.Chrome) -> dict[str, str]:
    """Site to full format name, as the table beside the front shows them."""
    rows = browser.find_elements(By.CSS_SELECTOR, "#plan-table tbody tr")
    return {
        row.get_attribute("data-site") or "": row.find_element(
            By.CSS_SELECTOR, ".format"
        ).get_attribute("title")
        or ""
        for row in rows
    }


def shown_title(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "plan-title").text


def test_the_chosen_plan_is_shown_first(browser: webdriver.Chrome):
    assert shown_title(browser) == "trial 6 (chosen)"
    assert shown_plan(browser) == {"fc1.input": "mxint8", "fc1.weight": "mxfp4"}


@pytest.mark.parametrize(
    ("trace", "trial", "title", "plan"),
    [
        ("front", 7, "trial 7", {"fc1.input": "mxint8", "fc1.weight": "mxfp6_e2m3"}),
        ("uniform formats", 1, "uniform mxint8", {"fc1.input": "mxint8", "fc1.weight": "mxint8"}),
        ("front", 6, "trial 6 (chosen)", {"fc1.input": "mxint8", "fc1.weight": "mxfp4"}),
    ],
)
def test_a_click_on_a_point_shows_its_plan(
    browser: webdriver.Chrome, trace: str, trial: int, title: str, plan: dict[str, str]
):
    click(browser, trace, trial)
    WebDriverWait(browser, 10).until(lambda browser: shown_title(browser) == title)
    assert shown_plan(browser) == plan
    text = browser.execute_script("return document.getElementById('plan-json').textContent")
    assert browser.execute_script("return JSON.parse(arguments[0])", text) == plan


def test_the_list_of_plans_works_without_a_mouse(browser: webdriver.Chrome):
    Select(browser.find_element(By.ID, "pick")).select_by_value("0")
    assert shown_title(browser) == "uniform mxint4"
    memory = browser.find_element(By.CSS_SELECTOR, "[data-metric='memory']")
    assert memory.text == "4,321"


def test_the_map_has_a_cell_for_each_site(browser: webdriver.Chrome):
    Select(browser.find_element(By.ID, "pick")).select_by_value("3")
    drawn = browser.execute_script(
        "const [map] = document.getElementById('map').data; return [map.x, map.y, map.z];"
    )
    assert drawn == [
        ["mxint4", "bfp(4,8,16)"],
        ["fc1.weight", "fc1.input"],
        [[1, 0], [0, 2]],
    ]


def test_the_figures_are_in_the_table(browser: webdriver.Chrome):
    rows = browser.find_elements(By.CSS_SELECTOR, "#figures tbody tr")
    assert [row.text for row in rows] == ["fp32 test 0.967 32", "chosen plan test 0.961 4.45"]


def test_the_page_fits_laptops_and_narrow_windows(browser: webdriver.Chrome):
    for width in (1366, 1024, 700):
        browser.set_window_size(width, 900)
        WebDriverWait(browser, 10).until(
            lambda browser: browser.execute_script(
                "return document.documentElement.scrollWidth <= innerWidth"
            ),
            f"the page is wider than a window of {width} pixels",
        )
        assert browser.execute_script("return innerWidth") <= width
    browser.set_window_size(1366, 1000)


def test_the_axes_can_be_chosen_among_three_objectives(browser: webdriver.Chrome, tmp_path: Path):
    assert not browser.find_element(By.ID, "axes").is_displayed()
    results = StudyResults.load(Path(__file__).parents[1] / "data" / "study.json")
    goals = {**results.objectives, "memory": "min"}
    trials = tuple(
        dataclasses.replace(trial, metrics={**trial.metrics, "memory": 1000.0 + trial.number})
        for trial in results.trials
    )
    three = dataclasses.replace(results, objectives=goals, trials=trials)
    page(three, tmp_path / "three.html")
    first = browser.current_url
    browser.get((tmp_path / "three.html").as_uri())
    Select(browser.find_element(By.ID, "axes")).select_by_visible_text("loss against memory")
    shown, drawn = browser.execute_script(
        "const plot = document.getElementById('front'), ring = plot.data.at(-1);"
        "return [plot.layout.xaxis.title.text, ring.x];"
    )
    assert shown == "memory (bytes) · lower is better"
    assert drawn == [1006]
    browser.get(first)


def test_a_search_that_found_nothing_says_so(browser: webdriver.Chrome, tmp_path: Path):
    results = StudyResults.load(Path(__file__).parents[1] / "data" / "study.json")
    nothing = dataclasses.replace(results, limits={"bits": 1.0}, front=(), chosen=None)
    page(nothing, tmp_path / "nothing.html")
    first = browser.current_url
    browser.get((tmp_path / "nothing.html").as_uri())
    assert shown_title(browser) == "uniform mxint4"
    assert browser.find_element(By.ID, "summary").text.endswith("no plan within the limits")
    browser.get(first)


def test_nothing_is_logged_and_nothing_is_fetched(browser: webdriver.Chrome):
    assert browser.get_log("browser") == []
    fetched = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"] and '"url":"http' in entry["message"]
    ]
    assert fetched == []
    names = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in names if not name.startswith(("data:", "blob:"))] == []
