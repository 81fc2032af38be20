"""The drawing of a model: its products with a swatch for each searched operand, as rows of SVG.

A row is a block of the model (`layers.0`), its data run from left to right; where there are many,
the later ones are folded. Swatches are empty here: the page gives them the formats of a plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from quire.report.layered import Edge, Node, in_layers, led_through, order, set_layers
from quire.report.reasons import Box, Model

BLOCK = re.compile(r"(?:.*?\.)?\d+(?=\.)")
"""The block of a name: everything up to its first number that is not its end."""

WIDTH, HEAD, SWATCH, GAP = 122, 20, 17, 18
"""Of a box, of its name, of a swatch, and between two boxes of a layer, in pixels."""

BETWEEN, WORDED, LETTER = 24, 14, 6.2
"""Between two layers, beside words there, and of a letter of those."""

FOLDED = 5
"""From so many blocks on, all but the first are folded."""

LONGEST = 9
"""Boxes in a row of a model without blocks."""

SIGNS = {"add": "+", "mul": "×", "cat": "⧺", "sub": "−"}
SETTLES = 6


@dataclass
class Spot(Node):
    """A box of a row: its sites' swatches below its name."""

    sites: tuple[str, ...] = ()
    title: str = ""

    @property
    def height(self) -> float:
        return HEAD + SWATCH * len(self.sites) + 4 if self.sites else 22.0


@dataclass
class Line(Edge):
    """An edge with words."""

    words: str = ""


@dataclass
class Row:
    """The boxes of a block, by their places in the model."""

    block: str
    boxes: list[int] = field(default_factory=list[int])

    def title(self, model: Model) -> str:
        """The block, or the first and the last of its products."""
        boxes = [model.boxes[index] for index in self.boxes]
        names = [box.name for box in boxes if box.sites] or [boxes[0].name]
        return self.block or " to ".join(dict.fromkeys([names[0], names[-1]]))


def drawing(model: Model) -> list[dict[str, Any]]:
    """The rows of a model: {"title", "svg", "sites", "open"}, sites being those of its swatches."""
    rows = [row for row in rows_of(model.boxes) if any(model.boxes[i].sites for i in row.boxes)]
    blocks = sum(bool(row.block) for row in rows)
    first = next((row for row in rows if row.block), None)
    return [
        {
            "title": row.title(model),
            "svg": _svg(model, row),
            "sites": [site for index in row.boxes for site in model.boxes[index].sites],
            "open": blocks < FOLDED or row is first or not row.block,
        }
        for row in rows
    ]


def block_of(name: str) -> str:
    """The block of a box or a site; empty where it is in none."""
    found = BLOCK.match(name)
    return found[0] if found else ""


def rows_of(boxes: Sequence[Box]) -> list[Row]:
    """The boxes by block, in order; one without a block that joins values stays where it is."""
    rows: list[Row] = []
    for index, box in enumerate(boxes):
        block = block_of(box.name)
        joins = bool(rows) and not block and not box.sites and box.op not in ("input", "output")
        is_full = bool(rows) and not block and len(rows[-1].boxes) >= LONGEST
        if not rows or (rows[-1].block != block and not joins) or is_full:
            rows.append(Row(block))
        rows[-1].boxes.append(index)
    return rows


def _svg(model: Model, row: Row) -> str:
    spots = {index: _spot(model.boxes[index], row.block) for index in row.boxes}
    inside = set(row.boxes)
    lines: list[Line] = []
    for source, target, words in model.edges:
        if target in inside:
            if source not in spots:
                spots = {source: _port(model.boxes[source].name), **spots}
            lines.append(Line([spots[source], spots[target]], words))
    nodes = list(spots.values())
    set_layers(nodes, lines)
    _bring_near(nodes, lines)
    layers = in_layers([*nodes, *led_through(lines)])
    order(layers, lines)
    width = _set_across(layers, lines)
    top, bottom = _set_down(layers, lines)
    drawn = [_line(line) for line in lines] + [_box(spot) for spot in nodes]
    return (
        f'<svg class="model" viewBox="0 {top:.0f} {width:.0f} {bottom - top:.0f}" '
        f'width="{width:.0f}" height="{bottom - top:.0f}" role="img" '
        f'aria-label="Products of {escape(row.title(model))}">{"".join(drawn)}</svg>'
    )


def _spot(box: Box, block: str) -> Spot:
    """A box; one without sites is a sign."""
    short = box.name.removeprefix(f"{block}.") if block else box.name
    if box.sites:
        return Spot(short, "product", width=WIDTH, sites=box.sites, title=box.name)
    if box.op in SIGNS:
        return Spot(SIGNS[box.op], "sign", width=22.0, title=box.name)
    return Spot(short, "port", width=len(short) * LETTER + 16, title=box.name)


def _port(name: str) -> Spot:
    """Where a value comes from another row."""
    return Spot(name, "port", width=len(name) * LETTER + 16, title=f"from {name}")


def _bring_near(nodes: Sequence[Node], lines: Sequence[Line]) -> None:
    """Move what nothing of the row leads to up to the first that reads it."""
    for node in reversed(nodes):
        if not any(line.way[-1] is node for line in lines):
            readers = [line.way[-1].layer for line in lines if line.way[0] is node]
            node.layer = min(readers, default=1) - 1


def _set_across(layers: Sequence[Sequence[Node]], lines: Sequence[Line]) -> float:
    """Set x of all nodes; the width of the drawing."""
    x = 2.0
    for index, layer in enumerate(layers):
        wide = max((node.width for node in layer if node.kind != "pass"), default=0.0)
        for node in layer:
            node.x = x + wide / 2
            if node.kind == "pass":
                node.width = wide
        words = [line.words for line in lines if line.words and line.way[-2].layer == index]
        x += wide + BETWEEN + max((len(w) * LETTER + WORDED for w in words), default=0.0)
    return x - BETWEEN + 2


def _set_down(layers: Sequence[Sequence[Node]], lines: Sequence[Line]) -> tuple[float, float]:
    """Set y of all nodes, near those that they are joined to; the ends of the drawing."""
    joined: dict[int, list[Node]] = {}
    for line in lines:
        for a, b in pairwise(line.way):
            joined.setdefault(id(a), []).append(b)
            joined.setdefault(id(b), []).append(a)
    for layer in layers:
        for place, y in zip(layer, _apart(layer, [0.0] * len(layer)), strict=True):
            place.y = y
    for _ in range(SETTLES):
        for layer in layers:
            wanted = [_mean_y(node, joined) for node in layer]
            for node, y in zip(layer, _apart(layer, wanted), strict=True):
                node.y = y
    nodes = [node for layer in layers for node in layer]
    return (
        min(node.y - _height(node) / 2 for node in nodes) - 3,
        max(node.y + _height(node) / 2 for node in nodes) + 3,
    )


def _mean_y(node: Node, joined: Mapping[int, list[Node]]) -> float:
    near = joined.get(id(node), [])
    return sum(other.y for other in near) / len(near) if near else node.y


def _height(node: Node) -> float:
    return node.height if isinstance(node, Spot) else 4.0


def _apart(layer: Sequence[Node], wanted: Sequence[float]) -> list[float]:
    """The places nearest to those wanted in which the nodes keep their order and do not touch.

    That is an isotonic regression of the places less the room above each (pool adjacent violators).
    """
    room, rooms = 0.0, list[float]()
    for before, node in zip([None, *layer], layer, strict=False):
        room += 0.0 if before is None else (_height(before) + _height(node)) / 2 + GAP
        rooms.append(room)
    pools: list[tuple[float, int]] = []
    for y, offset in zip(wanted, rooms, strict=True):
        total, count = y - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    level = [total / count for total, count in pools for _ in range(count)]
    return [y + offset for y, offset in zip(level, rooms, strict=True)]


def _line(line: Line) -> str:
    """A curve from box to box; its words are before the last one."""
    nodes = line.way
    path = f"M{nodes[0].x + nodes[0].width / 2:.1f} {nodes[0].y:.1f}"
    for a, b in pairwise(nodes):
        start, end = a.x + a.width / 2, b.x - b.width / 2
        middle = (start + end) / 2
        path += f"C{middle:.1f} {a.y:.1f} {middle:.1f} {b.y:.1f} {end:.1f} {b.y:.1f}"
        path += f"H{b.x + b.width / 2:.1f}" if b.kind == "pass" else ""
    x, y = nodes[-1].x - nodes[-1].width / 2, nodes[-1].y
    arrow = f"M{x - 7:.1f} {y - 3.5:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 3.5:.1f}"
    words = ""
    if line.words:
        words = f'<text x="{x - 10:.1f}" y="{y - 5:.1f}">{escape(line.words)}</text>'
    kind = "edge residual" if nodes[-1].kind == "sign" and len(nodes) > 2 else "edge"
    return f'<g class="{kind}"><path d="{path}"/><path d="{arrow}"/>{words}</g>'


def _box(spot: Node) -> str:
    assert isinstance(spot, Spot)
    left, top = spot.x - spot.width / 2, spot.y - spot.height / 2
    words_y = top + 14 if spot.sites else spot.y + 4
    swatches = "".join(
        f'<g class="swatch" data-site="{escape(site)}"><title></title>'
        f'<rect x="{left + 3:.1f}" y="{top + HEAD + SWATCH * i:.1f}" width="{WIDTH - 6}" '
        f'height="{SWATCH - 2}" rx="2"/>'
        f'<text x="{left + 8:.1f}" y="{top + HEAD + SWATCH * i + 11:.1f}"></text></g>'
        for i, site in enumerate(spot.sites)
    )
    return (
        f'<g class="box {spot.kind}" data-box="{escape(spot.title)}">'
        f"<title>{escape(spot.title)}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{spot.width:.1f}" '
        f'height="{spot.height:.1f}" rx="{5 if spot.sites else 11}"/>'
        f'<text class="name" x="{spot.x:.1f}" y="{words_y:.1f}">{escape(spot.name)}</text>'
        f"{swatches}</g>"
    )
