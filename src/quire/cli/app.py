"""The frame of the command line: the app, what commands take alike, tables, checks."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table

from quire.errors import QuireError, StudyError

T = TypeVar("T")

TaskName = Annotated[
    str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns a quire.Task.")
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console()


def _print_version(asked: bool) -> None:
    if asked:
        from quire import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Find the cheapest number format for every tensor of a PyTorch network."""


def check_folder(path: Path) -> None:
    """Raise StudyError where no file can be written, before any work is lost."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise StudyError(f"{path} cannot be written: give a file in a folder that exists")


def pairs(
    option: str, texts: Iterable[str], convert: Callable[[str], T], key: str, example: str
) -> dict[str, T]:
    """{name: value} of texts NAME=VALUE. convert: raises ValueError with what is wrong."""
    found: dict[str, T] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise QuireError(f"{option} {text!r}: write {key}=..., such as {example}")
        try:
            found[name] = convert(value)
        except ValueError as error:
            raise QuireError(f"{option} {text!r}: {error}; write {example}") from None
    return found


def working(what: str) -> Status:
    """A line on a terminal's stderr for as long as something takes; a context manager."""
    return Console(stderr=True).status(f"{what} ...")


def plain_table(*columns: str) -> Table:
    """A table without lines, whose cells go on below where the terminal is narrow."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table; in full where the output is not a terminal."""
    width = None if sys.stdout.isatty() else 240
    Console(width=width).print(table, markup=False, highlight=False)
