"""docs/streams.md names every cell of the library and all of its parameters."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CELLS = sorted((ROOT / "src" / "quire" / "hardware" / "rtl").glob("quire_*.sv"))
ROW = re.compile(r"^\| `(quire_\w+)` \| (.*?) \|", re.MULTILINE)
PARAMETER = re.compile(
    r"^\s*parameter\s+(?:int unsigned|bit|logic \[.*\])?\s*(\w+)\s*=", re.MULTILINE
)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """{cell: parameters} of the page's tables."""
    found = ROW.findall((ROOT / "docs" / "streams.md").read_text())
    assert len(found) == len(dict(found))
    return {cell: listed.split(", ") if listed else [] for cell, listed in found}


def test_the_page_lists_the_cells_of_the_library(rows: dict[str, list[str]]) -> None:
    assert sorted(rows) == [file.stem for file in CELLS]


@pytest.mark.parametrize("file", CELLS, ids=lambda file: file.stem)
def test_the_parameters_of_a_cell_are_on_the_page(rows: dict[str, list[str]], file: Path) -> None:
    """LANES is said once for all lane-wise cells."""
    parameters = PARAMETER.findall(file.read_text())
    assert rows[file.stem] == [name for name in parameters if name != "LANES"]
