"""Where to write the name of each point of a scatter plot so that names overlap little."""

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
LETTER, LINE, GAP_X, GAP_Y = 0.0085, 0.040, 0.010, 0.016

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def place(
    names: Sequence[str],
    points: Sequence[Point],
    solid: Sequence[Point],
    faint: Sequence[Point],
) -> list[str]:
    """A Plotly text position for each named point: the first of `POSITIONS` that hides least.

    `solid` and `faint` are other marks of the plot; hiding a faint one costs a quarter.
    """
    scaled = _unit([*points, *solid, *faint])
    taken = [(_around(point, 1.0), 1.0) for point in scaled[: len(points) + len(solid)]]
    taken += [(_around(point, 0.6), 0.25) for point in scaled[len(taken) :]]
    chosen: list[str] = []
    for (x, y), name in zip(scaled, names, strict=False):
        boxes = {where: _box(x, y, len(name), where) for where in POSITIONS}
        best = min(POSITIONS, key=lambda where: _hidden(boxes[where], taken))
        taken.append((boxes[best], 3.0))
        chosen.append(best)
    return chosen


def _unit(points: Sequence[Point]) -> list[Point]:
    """The points in a unit square."""
    columns: list[list[float]] = []
    for axis in range(2):
        column = [point[axis] for point in points]
        low = min(column, default=0.0)
        span = max(column, default=0.0) - low or 1.0
        columns.append([(value - low) / span for value in column])
    return list(zip(*columns, strict=True))


def _around(point: Point, size: float) -> Box:
    (x, y), width, height = point, size * GAP_X, size * GAP_Y
    return x - width, y - height, x + width, y + height


def _box(x: float, y: float, letters: int, where: str) -> Box:
    vertical, horizontal = where.split()
    width = letters * LETTER
    left = {"left": x - GAP_X - width, "center": x - width / 2, "right": x + GAP_X}[horizontal]
    low = {"bottom": y - GAP_Y - LINE, "middle": y - LINE / 2, "top": y + GAP_Y}[vertical]
    return left, low, left + width, low + LINE


def _hidden(box: Box, taken: Sequence[tuple[Box, float]]) -> float:
    """The weighted area that a box shares with others, and three times what leaves the plot."""
    area = sum(weight * _overlap(box, other) for other, weight in taken)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, (-0.05, -0.07, 1.05, 1.07))
    return area + 3 * outside


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
