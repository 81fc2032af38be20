"""What a plan does to a live model, as records that print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from quire.precision.cast import Axis
from quire.precision.entry import Entry


@dataclass(frozen=True)
class Swap:
    """A linear layer that becomes an `MXLinear`: the entries of its weight and of its input."""

    weight: Entry
    input: Entry | None


@dataclass(frozen=True)
class Rounding:
    """A parameter that is rounded in place, along an axis; why it is not held in codes."""

    entry: Entry
    axis: Axis
    reason: str


@dataclass(frozen=True)
class Applied:
    """What a plan does to a live model.

    swapped: {path of a linear layer: what it became}.
    rounded: {parameter: how}; its memory stays what it was.
    cast: {path of a linear layer that was not swapped: the entry of its input}.
    left: {site of the plan: why it has no effect}.
    """

    swapped: dict[str, Swap] = field(default_factory=dict[str, Swap])
    rounded: dict[str, Rounding] = field(default_factory=dict[str, Rounding])
    cast: dict[str, Entry] = field(default_factory=dict[str, Entry])
    left: dict[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        rounded = {name: f"{r.entry.text}: {r.reason}" for name, r in self.rounded.items()}
        lines = [
            *_grouped("in codes", {k: swap.weight.text for k, swap in self.swapped.items()}),
            *_grouped("rounded in place", rounded),
            *_grouped("input cast", {name: entry.text for name, entry in self.cast.items()}),
            *_grouped("not applied", self.left),
        ]
        return "\n".join(lines) or "nothing to apply"


def _grouped(what: str, named: Mapping[str, str]) -> Iterator[str]:
    """A line for each thing that is said of some names: how many, the first, and the thing."""
    groups: dict[str, list[str]] = {}
    for name, said in named.items():
        groups.setdefault(said, []).append(name)
    for said, names in groups.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{what}: {names[0]}{others} ({said})"
