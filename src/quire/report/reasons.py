"""The parts of `study.json` that say why a plan is what it is; the layout is in `results.py`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sensitivities:
    """What each format at each site costs alone: {site: {format: value}}, infinite where outputs
    are not finite, absent where it was not measured. kind: "kl", "error" or "fisher"."""

    kind: str
    loss: str
    values: Mapping[str, Mapping[str, float]]

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Sensitivities":
        """The record of plain data."""
        values = {
            str(site): {
                str(format): math.inf if value is None else float(value)
                for format, value in formats.items()
            }
            for site, formats in row["values"].items()
        }
        return Sensitivities(str(row["kind"]), str(row["loss"]), values)

    def predicted(self, plan: Mapping[str, str]) -> float | None:
        """The sum over a plan's choices; None where one of them was not measured."""
        total = 0.0
        for site, formats in self.values.items():
            if site not in plan or plan[site] not in formats:
                return None
            total += formats[plan[site]]
        return total


@dataclass(frozen=True)
class Program:
    """The least predicted loss within the limits, and {metric: (bound, loss)} with one relaxed."""

    loss: float
    relaxed: Mapping[str, tuple[float, float]]

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Program":
        """The record of plain data."""
        wider = {str(m): (float(r["bound"]), float(r["loss"])) for m, r in row["relaxed"].items()}
        return Program(float(row["loss"]), wider)


@dataclass(frozen=True)
class Box:
    """A box of the drawing of the model: a product, or another op that is drawn."""

    name: str
    op: str
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """The drawing of the model: boxes in the order of the data, edges (from, to, words)."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int, str], ...]

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Model":
        """The record of plain data; ValueError for an edge that does not lead on."""
        boxes = tuple(
            Box(str(box["name"]), str(box["op"]), tuple(str(site) for site in box["sites"]))
            for box in row["boxes"]
        )
        edges = tuple(_edge(edge, len(boxes)) for edge in row["edges"])
        return Model(boxes, edges)


def _edge(edge: Sequence[Any], boxes: int) -> tuple[int, int, str]:
    first, last, words = int(edge[0]), int(edge[1]), str(edge[2])
    if not 0 <= first < last < boxes:
        raise ValueError(f"an edge from box {first} to box {last} of {boxes}")
    return first, last, words
