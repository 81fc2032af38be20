"""The drawing of a model: its rows, which box stands where, swatches for every searched operand."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest

from quire.report import StudyResults
from quire.report.drawing import Spot, _apart, drawing, rows_of
from quire.report.layered import Node
from quire.report.reasons import Box, Model

RESULTS = StudyResults.load(Path(__file__).parents[2] / "data" / "explained.json")
assert RESULTS.model is not None
MODEL: Model = RESULTS.model


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """{box: left, top, right, bottom}."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for group in ElementTree.fromstring(svg).iter("g"):
        if "data-box" in group.attrib:
            rect = group.find("rect")
            assert rect is not None
            x, y, width, height = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
            found[group.attrib["data-box"]] = (x, y, x + width, y + height)
    return found


def swatches(svg: str) -> list[str]:
    return [g.attrib["data-site"] for g in ElementTree.fromstring(svg).iter("g")
            if "data-site" in g.attrib]  # fmt: skip


def blocks(count: int) -> Model:
    """Blocks of two products in a row."""
    names = [f"h.{n}.{part}" for n in range(count) for part in ("up", "down")]
    made = tuple(Box(name, "linear", (f"{name}.input", f"{name}.weight")) for name in names)
    return Model(made, tuple((i, i + 1, "") for i in range(len(made) - 1)))


def test_a_row_is_a_block() -> None:
    rows = drawing(MODEL)
    assert [row["title"] for row in rows] == ["layers.0", "head"]
    assert rows[0]["sites"] == [
        f"layers.0.{name}" for name in ("fc1.input", "fc1.weight", "gate.input", "gate.weight")
    ]
    assert [swatches(row["svg"]) for row in rows] == [row["sites"] for row in rows]


def test_boxes_follow_the_data_from_left_to_right() -> None:
    places = boxes(drawing(MODEL)[0]["svg"])
    assert list(places) == ["from input.x", "layers.0.fc1", "layers.0.gate", "layers.0.mul"]
    for first, last in (("from input.x", "layers.0.fc1"), ("layers.0.gate", "layers.0.mul")):
        assert places[first][2] < places[last][0]
    assert places["layers.0.fc1"][0] == places["layers.0.gate"][0]


def test_no_two_boxes_touch() -> None:
    for row in drawing(MODEL) + drawing(blocks(3)):
        for a, b in itertools.combinations(boxes(row["svg"]).values(), 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_words_stand_at_edges() -> None:
    texts = ElementTree.fromstring(drawing(MODEL)[0]["svg"]).iter("text")
    words = [text.text for text in texts if text.text and "class" not in text.attrib]
    assert words == ["norm", "norm", "silu"]


@pytest.mark.parametrize(("count", "opened"), [(4, [True] * 4), (6, [True, *[False] * 5])])
def test_many_blocks_are_folded(count: int, opened: list[bool]) -> None:
    assert [row["open"] for row in drawing(blocks(count))] == opened


def test_a_sum_without_a_block_stays_in_the_row_before_it() -> None:
    made = (Box("h.0.up", "linear", ("a",)), Box("add", "add", ()), Box("h.1.up", "linear", ("b",)))
    assert [(row.block, row.boxes) for row in rows_of(made)] == [("h.0", [0, 1]), ("h.1", [2])]


def test_a_long_chain_is_broken_into_rows() -> None:
    made = tuple(Box(f"fc{n}", "linear", (f"fc{n}.input",)) for n in range(12))
    rows = drawing(Model(made, tuple((i, i + 1, "") for i in range(11))))
    assert [row["title"] for row in rows] == ["fc0 to fc8", "fc9 to fc11"]


def test_an_edge_that_skips_a_product_keeps_clear_of_it() -> None:
    made = tuple(Box(name, op, sites) for name, op, sites in (
        ("h.0.a", "linear", ("a",)), ("h.0.b", "linear", ("b",)), ("h.0.add", "add", ()),
    ))  # fmt: skip
    (row,) = drawing(Model(made, ((0, 1, ""), (0, 2, ""), (1, 2, ""))))
    root = ElementTree.fromstring(row["svg"])
    left, top, right, bottom = boxes(row["svg"])["h.0.b"]
    groups = (group for group in root.iter("g") if group.get("class") == "edge residual")
    path = next(groups).findall("path")[0].attrib["d"]
    before = path.partition("H")[0].rpartition(" ")
    assert float(path.partition("H")[2].partition("C")[0]) == pytest.approx(right)
    assert not top <= float(before[2]) <= bottom
    assert float(before[0].rpartition(" ")[2]) == pytest.approx(left)


def test_places_are_the_nearest_that_leave_room() -> None:
    spots: list[Node] = [Spot(name, "product", sites=("a", "b")) for name in "abc"]
    room = 58 + 18  # the height of a box, and the gap
    assert _apart(spots, [0.0, 0.0, 0.0]) == [-room, 0.0, room]
    assert _apart(spots, [-500.0, 0.0, 500.0]) == [-500.0, 0.0, 500.0]
    assert _apart(spots, [0.0, 0.0, 500.0]) == [-room / 2, room / 2, 500.0]
