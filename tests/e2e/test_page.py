"""The page of a study in a real browser: a click on the front shows the plan of that point."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
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


DATA = Path(__file__).parents[1] / "data"


def opened(chrome: webdriver.Chrome, study: str, folder: Path) -> webdriver.Chrome:
    """The browser with the page of a study of the tests' data."""
    page(StudyResults.load(DATA / study), folder / "page.html")
    chrome.get((folder / "page.html").as_uri())
    WebDriverWait(chrome, 30).until(
        lambda chrome: chrome.find_elements(By.CSS_SELECTOR, "html[data-ready='true']")
    )
    return chrome


@pytest.fixture(scope="module")
def browser(chrome: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> webdriver.Chrome:
    """The browser with the page of a study that says nothing of why."""
    return opened(chrome, "study.json", tmp_path_factory.mktemp("page"))


@pytest.fixture
def explained(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """The browser with the page of a study that says why; then with the other one again."""
    first = browser.current_url
    yield opened(browser, "explained.json", tmp_path)
    browser.get(first)


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
    results = StudyResults.load(DATA / "study.json")
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
    results = StudyResults.load(DATA / "study.json")
    nothing = dataclasses.replace(results, limits={"bits": 1.0}, front=(), chosen=None)
    page(nothing, tmp_path / "nothing.html")
    first = browser.current_url
    browser.get((tmp_path / "nothing.html").as_uri())
    assert shown_title(browser) == "uniform mxint4"
    assert browser.find_element(By.ID, "summary").text.endswith("no plan within the limits")
    browser.get(first)


def pick(browser: webdriver.Chrome, trial: int) -> None:
    Select(browser.find_element(By.ID, "pick")).select_by_value(str(trial))


def marks(browser: webdriver.Chrome) -> list[tuple[str, str]]:
    """(site, format) of each ring on the map of sensitivities."""
    names = browser.execute_script(
        "const map = document.getElementById('map'), { x, y } = map.data[1];"
        "const { xaxis, yaxis } = map.layout;"
        "return x.map((column, i) => [yaxis.ticktext[y[i]], xaxis.ticktext[column]]);"
    )
    return [(site, text) for site, text in names]


def swatches(browser: webdriver.Chrome) -> dict[str, str]:
    """{site: what its swatch on the drawing says}."""
    found = browser.find_elements(By.CSS_SELECTOR, "#model svg .swatch")
    return {
        swatch.get_attribute("data-site") or "": swatch.find_element(By.TAG_NAME, "text").text
        for swatch in found
    }


def test_the_map_marks_the_choices_of_the_plan_over_their_sensitivities(
    explained: webdriver.Chrome,
):
    assert explained.find_element(By.ID, "map-head").text == "Sensitivities"
    assert "what trial 2 takes" in explained.find_element(By.ID, "map-note").text
    groups = {
        "layers.0.fc1.input": "mxint8",
        "layers.0.fc1.weight": "mxint4",
        "layers.0.gate.weight": "mxint4",
        "head.input": "mxint4",
        "head.weight": "mxint8",
    }
    assert dict(marks(explained)) == groups
    pick(explained, 1)
    assert dict(marks(explained)) == dict.fromkeys(groups, "mxint4")
    blank = explained.execute_script("return document.getElementById('map').data[0].z[1]")
    assert blank == [-3, None]


def test_the_plan_is_drawn_on_the_model(explained: webdriver.Chrome):
    titles = explained.find_elements(By.CSS_SELECTOR, "#model .title")
    assert [title.text for title in titles] == ["layers.0", "head"]
    plan = shown_plan(explained)
    assert swatches(explained) == plan
    assert plan["head.weight"] == "mxint8"
    colour = "return getComputedStyle(document.querySelector(arguments[0])).fill"
    wide = explained.execute_script(colour, "#model [data-site='head.weight'] rect")
    narrow = explained.execute_script(colour, "#model [data-site='head.input'] rect")
    assert wide != narrow
    pick(explained, 3)
    assert swatches(explained)["head.weight"] == "mxint4"
    assert explained.execute_script(colour, "#model [data-site='head.weight'] rect") == narrow
    strip = explained.find_elements(By.CSS_SELECTOR, "#model .strip i")
    assert len(strip) == len(plan)
    assert strip[-1].get_attribute("title") == "head.weight: mxint4, 4.5 bits per value"


def test_a_row_of_the_drawing_folds_by_the_keyboard(explained: webdriver.Chrome):
    head = explained.find_element(By.CSS_SELECTOR, "#model summary")
    drawn = explained.find_element(By.CSS_SELECTOR, "#model svg")
    assert drawn.is_displayed()
    head.send_keys(Keys.ENTER)
    assert not drawn.is_displayed()


def test_the_limits_say_which_one_binds(explained: webdriver.Chrome):
    def rows() -> dict[str, tuple[str, str]]:
        found = explained.find_elements(By.CSS_SELECTOR, "#limits li")
        return {
            row.get_attribute("data-limit") or "": (
                row.get_attribute("class") or "",
                " ".join(row.text.split()),
            )
            for row in found
        }

    assert rows() == {
        "bits": (
            "binds",
            "bits 4.95 of at most 5 Binds: slack 0.05 (1%). "
            "With bits up to 5.25, the least predicted loss would be 50% lower.",
        ),
        "memory": (
            "free",
            "memory 760 of at most 1,000 Does not bind: slack 240 (24%). "
            "With memory up to 1,050, the least predicted loss would be no lower.",
        ),
    }
    pick(explained, 0)
    assert rows()["bits"][0] == "broken"
    assert "Broken: beyond by 27 (540%)" in rows()["bits"][1]


def test_the_cost_by_layer_is_that_of_the_plan(explained: webdriver.Chrome):
    read = (
        "return document.getElementById('layers').data.map((bars) => [bars.name,"
        " Object.fromEntries(bars.y.map((layer, i) => [layer, bars.x[i]]))])"
    )
    weights, activations = explained.execute_script(read)
    assert weights == [
        "weights",
        {
            "layers.0.fc1": 512 * 4.25 / 8,
            "layers.0.gate": 512 * 4.25 / 8,
            "head": 64 * 8.5 / 8,
        },
    ]
    # The input that both products share is held once.
    shared = {"layers.0.fc1": 32 * 8.25 / 8, "layers.0.gate": 0, "head": 16 * 4.5 / 8}
    assert activations == ["activations", shared]
    pick(explained, 0)  # fp32
    assert explained.execute_script(read)[0][1]["head"] == 64 * 4
    Select(explained.find_element(By.ID, "cost")).select_by_visible_text("LUT")
    assert explained.execute_script(read) == [
        ["LUT", {"layers.0.fc1": 120, "layers.0.gate": 130, "head": 40}]
    ]


def test_a_click_on_a_prediction_shows_its_plan(explained: webdriver.Chrome):
    plot = explained.find_element(By.ID, "prediction")
    explained.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    x, y = explained.execute_script(WHERE.replace('"front"', '"prediction"'), "plans", 4)
    actions = ActionChains(explained, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.pause(0.3).click().perform()
    WebDriverWait(explained, 10).until(lambda browser: shown_title(browser) == "trial 4")
    ring = explained.execute_script(
        "const ring = document.getElementById('prediction').data.at(-1); return [ring.x, ring.y];"
    )
    assert ring == [pytest.approx([0.0359]), [0.04]]
    assert "Rank correlation 1.00" in explained.find_element(By.ID, "prediction-note").text


def test_the_columns_are_of_a_length(explained: webdriver.Chrome):
    lengths = explained.execute_script(
        "return ['.main', '.side'].map((name) => document.querySelector(name).offsetHeight);"
    )
    assert abs(lengths[0] - lengths[1]) < 420  # less than any section with a plot


def test_sections_without_data_are_hidden(browser: webdriver.Chrome):
    for name in ("model-section", "prediction-section"):
        assert not browser.find_element(By.ID, name).is_displayed()
    assert browser.find_element(By.ID, "map-head").text == "Sites and formats"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_reasons_fits_a_telephone_in_either_scheme(
    explained: webdriver.Chrome, scheme: str
):
    preference = {"name": "prefers-color-scheme", "value": scheme}
    explained.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    size = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    explained.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        WebDriverWait(explained, 10).until(
            lambda browser: browser.execute_script(
                "return document.documentElement.scrollWidth <= 400"
            )
        )
        page, ink = explained.execute_script(
            "const style = getComputedStyle(document.body);"
            "return [style.backgroundColor, style.color].map((c) => +c.match(/\\d+/)[0]);"
        )
        assert (page < ink) == (scheme == "dark")
    finally:
        explained.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        explained.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


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
