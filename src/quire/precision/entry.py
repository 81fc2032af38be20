"""`Entry`: how one site is represented, and its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

from quire.errors import PlanError
from quire.formats import Format, parse
from quire.graph.sites import Site
from quire.precision.cast import Axis, StaticScale
from quire.precision.corrections import CORRECTIONS

EntryLike: TypeAlias = "Entry | Format | str"


def _no_corrections() -> dict[str, dict[str, Any]]:
    return {}


@dataclass(frozen=True)
class Entry:
    """How one site is represented.

    axis: along which blocks run; None takes the site's reduction axis.
    scale: a static scale in place of the one found in the data (blocks only): a number, or
        (scale, zero point) for a format with a zero point.
    corrections: named corrections with their options, {name: {option: value}}. Those of
        `quire.precision.corrections` are made by `quire.correct`.
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
        """An entry from an entry, a format, or a format string, to which names of corrections may
        be added: "mxint4+gptq+bias"."""
        if isinstance(value, Entry):
            return value
        if isinstance(value, str):
            text, names = split_corrections(value)
            return Entry(parse(text), corrections={name: {} for name in names})
        found: object = value
        if not isinstance(found, Format):
            raise PlanError(f"{value!r} is no format: give a string such as 'mxint8', or a Format")
        return Entry(found)

    @cached_property
    def text(self) -> str:
        """The format string, kept because a search asks for it in every trial."""
        return str(self.format)

    def to_json(self) -> str | dict[str, Any]:
        """The format string with the names of corrections, or a dict where the entry says more."""
        if self.name is not None:
            return self.name
        more = {
            "axis": self.axis,
            "scale": self.scale,
            "corrections": {name: dict(options) for name, options in self.corrections.items()},
        }
        said = {name: value for name, value in more.items() if value not in (None, {})}
        return {"format": self.text, **said}

    @cached_property
    def name(self) -> str | None:
        """The entry as `of` takes it, "mxint4+gptq"; None where that does not say it all."""
        says_more = self.axis is not None or self.scale is not None
        if (
            says_more
            or any(self.corrections.values())
            or not self.corrections.keys() <= CORRECTIONS.keys()
        ):
            return None
        return "+".join([self.text, *(name for name in CORRECTIONS if name in self.corrections)])

    @cached_property
    def is_pending(self) -> bool:
        """Whether there are corrections that `quire.correct` is to make."""
        return not CORRECTIONS.keys().isdisjoint(self.corrections)

    @property
    def settled(self) -> Entry:
        """The entry without those."""
        if not self.is_pending:
            return self
        kept = {n: options for n, options in self.corrections.items() if n not in CORRECTIONS}
        return replace(self, corrections=kept)

    @staticmethod
    def from_json(data: Any) -> Entry:
        """The inverse of `to_json`; raises `PlanError` or `FormatError` that says what is wrong."""
        if isinstance(data, str):
            return Entry.of(data)
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


def split_corrections(text: str) -> tuple[str, list[str]]:
    """A format string, and the corrections that are added to it, in the order in which they are
    made; PlanError for one that is not known."""
    format, *names = (part.strip() for part in text.split("+"))
    for name in names:
        if name not in CORRECTIONS:
            legal = ", ".join(CORRECTIONS)
            raise PlanError(f"{text!r}: no correction is named {name!r}; there are {legal}")
    return format, [name for name in CORRECTIONS if name in names]


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
