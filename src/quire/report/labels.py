"""Where to write the name of each point of a scatter plot so that names overlap little."""

import math
from collections.abc import Sequence

POSITIONS = (
    "top center",
    "middle right",
    "bottom center",
    "middle left",
    "top right",
    "bottom right",
    "top left",
    "bottom left",
)
# Sizes as fractions of a plot about 700 by 420 pixels, text at 12 pixels.
LETTER, LINE, GAP_X, GAP_Y = 0.0095, 0.040, 0.010, 0.016

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def place(
    points: Sequence[Point],
    names: Sequence[str],
    obstacles: Sequence[Point],
    logarithmic: tuple[bool, bool],
) -> list[str]:
    """A Plotly text position for each point: the first of `POSITIONS` that hides least.

    `obstacles` are other points to keep clear of; `logarithmic` says so for (x, y).
    """
    scaled = _unit([*points, *obstacles], logarithmic)
    taken = [(x - GAP_X, y - GAP_Y, x + GAP_X, y + GAP_Y) for x, y in scaled]
    chosen: list[str] = []
    for (x, y), name in zip(scaled, names, strict=False):
        boxes = {where: _box(x, y, len(name), where) for where in POSITIONS}
        best = min(POSITIONS, key=lambda where: _hidden(boxes[where], taken))
        taken.append(boxes[best])
        chosen.append(best)
    return chosen


def _unit(points: Sequence[Point], logarithmic: tuple[bool, bool]) -> list[Point]:
    """The points in a unit square."""
    columns: list[list[float]] = []
    for axis, is_log in enumerate(logarithmic):
        column = [math.log(p[axis]) if is_log else p[axis] for p in points]
        low = min(column, default=0.0)
        span = max(column, default=0.0) - low or 1.0
        columns.append([(value - low) / span for value in column])
    return list(zip(*columns, strict=True))


def _box(x: float, y: float, letters: int, where: str) -> Box:
    vertical, horizontal = where.split()
    width = letters * LETTER
    left = {"left": x - GAP_X - width, "center": x - width / 2, "right": x + GAP_X}[horizontal]
    low = {"bottom": y - GAP_Y - LINE, "middle": y - LINE / 2, "top": y + GAP_Y}[vertical]
    return left, low, left + width, low + LINE


def _hidden(box: Box, taken: Sequence[Box]) -> float:
    """The area that a box shares with others, plus what lies outside the plot."""
    area = sum(_overlap(box, other) for other in taken)
    return area + (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, (-0.03, -0.04, 1.03, 1.04))


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
