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
# Sizes as fractions of a plot about 700 by 450 pixels, text at 12 pixels.
LETTER, LINE, GAP_X, GAP_Y = 0.0092, 0.034, 0.010, 0.014
NAME, NAMED = 10.0, 2.0  # weights of another name and of a named point; a solid mark counts 1
ROUNDS = 8

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Weighted = tuple[Box, float]


def place(
    names: Sequence[str],
    points: Sequence[Point],
    solid: Sequence[Point],
    faint: Sequence[Point],
) -> list[str]:
    """A Plotly text position for each named point: the first of `POSITIONS` that hides least.

    `solid` and `faint` are other marks of the plot; hiding a faint one costs a quarter. Names are
    placed one after another, and then anew around the others, until none moves.
    """
    scaled = _unit([*points, *solid, *faint])
    marks = [(_around(point, 1.0), NAMED) for point in scaled[: len(points)]]
    marks += [(_around(p, 1.0), 1.0) for p in scaled[len(points) : len(points) + len(solid)]]
    marks += [(_around(point, 0.6), 0.25) for point in scaled[len(marks) :]]
    boxes = [
        {where: _box(x, y, len(name), where) for where in POSITIONS}
        for (x, y), name in zip(scaled, names, strict=False)
    ]
    costs = [{where: _hidden(box, marks) for where, box in own.items()} for own in boxes]
    chosen: dict[int, str] = {}
    for _ in range(ROUNDS):
        before = dict(chosen)
        for i, own in enumerate(boxes):
            others = [(boxes[j][where], NAME) for j, where in chosen.items() if j != i]
            chosen[i] = min(
                POSITIONS, key=lambda where: costs[i][where] + _shared(own[where], others)
            )
        if chosen == before:
            break
    return list(chosen.values())


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


def _hidden(box: Box, marks: Sequence[Weighted]) -> float:
    """The weighted area that a box shares with marks, and three times what leaves the plot."""
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, (-0.05, -0.07, 1.05, 1.07))
    return _shared(box, marks) + 3 * outside


def _shared(box: Box, others: Sequence[Weighted]) -> float:
    return sum(weight * _overlap(box, other) for other, weight in others)


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
