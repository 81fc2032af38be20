"""What messages and documentation tell a user to type exists: calls, commands, extras, formats."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import metadata
from pathlib import Path

import pytest
import typer

import quire
from quire.cli import app
from quire.formats import parse

SOURCE = Path(quire.__file__).parent
COMMANDS = {*typer.main.get_command(app).commands}  # type: ignore[attr-defined]
EXTRAS = {*(metadata("quire").get_all("Provides-Extra") or ())}


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every string in the source, and of the parts of those with values in them."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file.relative_to(SOURCE).as_posix(), node.value


def resolve(path: str) -> object:
    """What a dotted name is: of a module, or an attribute."""
    found: object = quire
    for i, part in enumerate(parts := path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(["quire", *parts[: i + 1]]))
    return found


def lookup(known: set[str]) -> Callable[[str], object]:
    def found(name: str) -> object:
        if name not in known:
            raise LookupError(name)
        return name

    return found


@pytest.mark.parametrize(
    ("pattern", "check", "least"),
    [
        (r"(?<![\w./-])quire\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", resolve, 50),
        (r"(?<![\w.])[Pp]lan\.([a-z_]\w*)\(", partial(getattr, quire.Plan), 5),
        (r"(?<![\w.])[Dd]esign\.([a-z_]\w*)\(", partial(getattr, quire.Design), 1),
        (r"`quire ([a-z]\w*)", lookup(COMMANDS), 10),
        (r"quire\[(\w+)\]", lookup(EXTRAS), 3),
        (r"(block\(\w+\([^()]*\),size=[^,]+,scale=\w+(?:\([^()]*\))?\))", parse, 2),
    ],
)
def test_what_is_advised_can_be_typed(
    pattern: str, check: Callable[[str], object], least: int
) -> None:
    found = [(file, name) for file, text in texts() for name in re.findall(pattern, text)]
    assert len(found) >= least
    for file, name in found:
        try:
            check(name)
        except Exception as error:
            pytest.fail(f"{file} speaks of {name!r}: {error!r}")
