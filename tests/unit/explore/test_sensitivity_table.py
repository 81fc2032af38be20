"""The table of sensitivities for a terminal: where values stand, and on which colours."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from quire.explore import Task, sensitivity
from quire.explore.sensitivity_table import COLD, HOT, MILD, _cell, sensitivity_table


def cells(table: Table) -> list[list[str]]:
    """The texts of the table, row by row."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def colour(cell: Text) -> tuple[int, int, int]:
    style = cell.style
    assert not isinstance(style, str)
    assert style.bgcolor is not None
    return tuple(style.bgcolor.get_truecolor())  # type: ignore[return-value]


def test_formats_stand_by_size_and_fitted_ones_share_a_column(task: Task, storage: str) -> None:
    formats = ["mxint6", "fixed(3..4,fitted)", "mxint4"]
    found = sensitivity(task, formats, storage=storage, prune=(), progress=False)
    table = sensitivity_table(found)
    heads = [str(column.header) for column in table.columns]
    assert heads == ["site", "fixed(3,fitted)", "fixed(4,fitted)", "mxint4", "mxint6"]
    rows = cells(table)
    assert [row[0] for row in rows] == list(found.values)
    for site, *texts in rows:
        assert sorted(texts) == sorted(f"{value:.2g}" for value in found.values[site].values())
        assert texts[-1] == f"{found.values[site]['mxint6']:.2g}"


def test_what_was_not_measured_is_empty(task: Task, storage: str) -> None:
    formats = ["mxint4", "mxfp4", "mxint6"]
    found = sensitivity(task, formats, storage=storage, progress=False)
    count = sum(len(row) for row in found.values.values())
    texts = [text for row in cells(sensitivity_table(found)) for text in row[1:]]
    assert len([text for text in texts if text]) == count < len(texts)


def test_the_colour_goes_by_the_logarithm() -> None:
    assert colour(_cell(100.0, 2.0)) == HOT
    assert colour(_cell(10 ** (2 - 3.5), 2.0)) == MILD
    assert colour(_cell(1e-5, 2.0)) == colour(_cell(1e-9, 2.0)) == colour(_cell(0.0, 2.0)) == COLD
    assert str(_cell(0.0123, 2.0)) == "0.012"
    console = Console(color_system="truecolor", force_terminal=True, width=20)
    with console.capture() as captured:
        console.print(_cell(100.0, 2.0), end="")
    assert "\x1b[37;48;2;143;29;44m1e+02" in captured.get()
