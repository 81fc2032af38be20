"""`Entry`: how one site is represented, and its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, cast

from quire.errors import PlanError
from quire.formats import Format, parse
from quire.graph.sites import Site
from quire.precision.cast import Axis, StaticScale

EntryLike: TypeAlias = "Entry | Format | str"


def _no_corrections() -> dict[str, dict[str, Any]]:
    return {}


@dataclass(frozen=True)
class Entry:
    """How one site is represented.

    axis: along which blocks run; None takes the site's reduction axis.
    scale: a static scale in place of the one found in the data (blocks only): a number, or
        (scale, zero point) for a format with a zero point.
    corrections: named corrections with their options, {name: {option: value}}.
    """

    format: Format
    axis: Axis | None = None
    scale: StaticScale = None
    corrections: Mapping[str, Mapping[str, Any]] = field(
        default_factory=_no_corrections, hash=False
    )

    def __post_init__(self) -> None:
        given: object = self.format
        if not isinstance(given, Format):
            raise PlanError(f"{given!r} is no Format: Entry.of takes its text, or a plan")

    @staticmethod
    def of(value: EntryLike) -> Entry:
        """An entry from an entry, a format, or a format string."""
        if isinstance(value, Entry):
            return value
        found: object = parse(value) if isinstance(value, str) else value
        if not isinstance(found, Format):
            raise PlanError(f"{value!r} is no format: give a string such as 'mxint8', or a Format")
        return Entry(found)

    @cached_property
    def text(self) -> str:
        """The format string, kept because a search asks for it in every trial."""
        return str(self.format)

    def to_json(self) -> str | dict[str, Any]:
        """The format string alone, or a dict where the entry says more."""
        if self.is_plain:
            return self.text
        more = {
            "axis": self.axis,
            "scale": self.scale,
            "corrections": {name: dict(options) for name, options in self.corrections.items()},
        }
        said = {name: value for name, value in more.items() if value not in (None, {})}
        return {"format": self.text, **said}

    @property
    def is_plain(self) -> bool:
        """Whether the entry is no more than a format."""
        return self.axis is None and self.scale is None and not self.corrections

    @staticmethod
    def from_json(data: Any) -> Entry:
        """The inverse of `to_json`; raises `PlanError` or `FormatError` that says what is wrong."""
        if isinstance(data, str):
            return Entry(parse(data))
        if not isinstance(data, dict):
            raise PlanError(f"{data!r} is neither a format string nor an object with a format")
        entry = cast("dict[str, Any]", data)
        unknown = entry.keys() - _ENTRY_TYPES.keys()
        if unknown or "format" not in entry:
            raise PlanError(
                f"an entry needs `format` and may have `axis`, `scale` and `corrections`; "
                f"this one has {', '.join(map(repr, entry)) or 'nothing'}"
            )
        for name, value in entry.items():
            _check_type(name, value)
        scale = _tuple(entry.get("scale"))
        if scale is not None and not is_scale(scale):
            raise PlanError(f"scale={entry['scale']!r} of an entry is {SCALE}")
        return Entry(
            parse(entry["format"]),
            _tuple(entry.get("axis")),
            scale,
            entry.get("corrections", {}),
        )

    def __str__(self) -> str:
        said = self.to_json()
        if isinstance(said, str):
            return said
        return " ".join([said.pop("format"), *(f"{name}={value}" for name, value in said.items())])


SCALE = "no static scale: give a finite number of at least 0, or that and a zero point"

_ENTRY_TYPES: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "axis": (int, list),
    "scale": (int, float, list),
    "corrections": (dict,),
}


def _check_type(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, _ENTRY_TYPES[name]):
        legal = " or ".join(t.__name__ for t in _ENTRY_TYPES[name])
        raise PlanError(f"{name}={value!r} of an entry is not a {legal}")


def _tuple(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def is_scale(scale: StaticScale) -> bool:
    """Whether a static scale is one or two finite numbers, none negative; 0 is that of zeros."""
    parts: tuple[object, ...] = scale if isinstance(scale, tuple) else (scale,)
    return 1 <= len(parts) <= 2 and all(
        isinstance(part, int | float) and 0 <= part < math.inf for part in parts
    )


def axis_of(site: Site, entry: Entry) -> Axis:
    """The axis along which the rows and blocks of a site run."""
    return site.axis if entry.axis is None else entry.axis
