"""The registry of format families: the name in a format string -> the class that it constructs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from quire.errors import FormatError
from quire.formats.base import Format

FAMILIES: dict[str, Callable[..., Format]] = {}

EXAMPLES: dict[str, str] = {}
"""A format string of each family, for messages, tables and the conformance tests."""

F = TypeVar("F", bound=Callable[..., Format])


def family(name: str, example: str) -> Callable[[F], F]:
    """Register a constructor of formats under the name that format strings call it by.

    example: a format string of the family.
    """

    def register(constructor: F) -> F:
        FAMILIES[name], EXAMPLES[name] = constructor, example
        return constructor

    return register


def check_range(name: str, field: str, value: Any, low: int, high: int) -> None:
    """Raise unless a format's parameter is an integer within its bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FormatError(f"{name}: {field}={value!r} is not an integer from {low} to {high}")
