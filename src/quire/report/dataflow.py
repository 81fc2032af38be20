"""The drawing of a dataflow: stages from top to bottom, streams between them, as SVG.

Colours are those of the page: classes, no styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from quire.report.figures import short
from quire.report.layered import Edge, Node, in_layers, led_through, order, set_layers

BOX_HEIGHT, GAP_DOWN, GAP_ACROSS = 52, 58, 44
LETTER, SMALL_LETTER = 8.2, 6.6
"""Widths of a letter of a name and of a detail, in pixels."""


@dataclass
class Box(Node):
    """A stage or a port, with words below its name."""

    lines: tuple[str, ...] = ()
    share: float = 0.0
    tip: str = ""

    def __post_init__(self) -> None:
        detail = max((len(line) for line in self.lines), default=0)
        self.width = max(130.0, len(self.name) * LETTER + 30, detail * SMALL_LETTER + 30)


@dataclass
class StreamEdge(Edge):
    """A stream to one of its readers; the side of its words."""

    stream: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_left: bool = False


def dataflow(design: Mapping[str, Any]) -> str:
    """The SVG of a design; its layout is that of `quire.report.design`."""
    nodes, edges = _graph(design)
    set_layers(nodes, edges)
    layers = in_layers([*nodes, *led_through(edges)])
    order(layers, edges)
    height = _place(layers)
    _choose_sides(edges)
    boxes = [(node.x - node.width / 2, node.x + node.width / 2) for node in nodes]
    ends = boxes + [_Label.of(edge).ends for edge in edges]
    left, right = min(low for low, _ in ends) - 4, max(high for _, high in ends) + 4
    drawn = [_edge(edge) for edge in edges] + [_box(node) for node in nodes]
    return (
        f'<svg class="dataflow" viewBox="{left:.0f} 0 {right - left:.0f} {height:.0f}" '
        f'width="{right - left:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="Dataflow of {escape(design["name"])}">{"".join(drawn)}</svg>'
    )


def _graph(design: Mapping[str, Any]) -> tuple[list[Box], list[StreamEdge]]:
    """Boxes for ports and stages, in the order of the data, and the streams between them."""
    streams = {stream["name"]: stream for stream in design["streams"]}
    sources = {name: Box(f"s_axis_{name}", "port") for name in design["inputs"]}
    nodes, edges = list(sources.values()), list[StreamEdge]()
    for stage in design["stages"]:
        node = _stage(stage, design)
        nodes.append(node)
        edges += [StreamEdge([sources[name], node], streams[name]) for name in stage["reads"]]
        sources.update(dict.fromkeys(stage["writes"], node))
    for name in design["outputs"]:
        nodes.append(Box(f"m_axis_{name}", "port"))
        edges.append(StreamEdge([sources[name], nodes[-1]], streams[name]))
    return nodes, edges


def _stage(stage: Mapping[str, Any], design: Mapping[str, Any]) -> Box:
    queues = [f"queue of {depth} beats" for depth in stage["queues"]]
    detail = [part for part in (stage["detail"], *queues) if part]
    share = stage["interval"] / design["interval"]
    tip = (
        f"{stage['kind']} {stage['name']}: busy {stage['interval']} of {design['interval']} cycles"
    )
    lines = tuple(part for text in detail for part in _wrapped(text))
    return Box(stage["name"], stage["kind"], lines=lines or (stage["kind"],), share=share, tip=tip)


def _wrapped(text: str, most: int = 46) -> list[str]:
    """A text in lines, broken after commas."""
    lines = [""]
    for part in text.split(", "):
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + part
    return lines


def _place(layers: Sequence[Sequence[Node]]) -> float:
    """Set the centres of all nodes, the middle of each layer at x = 0; the height of all."""
    for index, layer in enumerate(layers):
        left = -(sum(node.width for node in layer) + GAP_ACROSS * (len(layer) - 1)) / 2
        for node in layer:
            node.x, node.y = left + node.width / 2, 34 + index * (BOX_HEIGHT + GAP_DOWN)
            left += node.width + GAP_ACROSS
    return 2 * 34 + (len(layers) - 1) * (BOX_HEIGHT + GAP_DOWN)


def _choose_sides(edges: Sequence[StreamEdge]) -> None:
    """Words stand outside of where streams part or meet."""
    for edge in edges:
        leads = edge.way[1].x - edge.way[0].x
        parts = sum(other.way[0] is edge.way[0] for other in edges) > 1
        meets = sum(other.way[-1] is edge.way[-1] for other in edges) > 1
        edge.is_left = leads < 0 if parts else meets and leads > 0 and len(edge.way) == 2


def _words(stream: Mapping[str, Any]) -> tuple[str, str]:
    shape = " × ".join(map(str, stream["shape"]))
    lanes = f"{stream['lanes']} lane{'s' * (stream['lanes'] != 1)}"
    return short(stream["values"]), f"[{shape}] · {lanes} · {stream['beats']} beats"


@dataclass(frozen=True)
class _Label:
    """The words at a stream: beside its first piece."""

    lines: tuple[str, str]
    x: float
    y: float
    is_left: bool

    @staticmethod
    def of(edge: StreamEdge) -> _Label:
        (x0, y0), (x1, y1) = _points(edge)[:2]
        x = (x0 + x1) / 2 + (-10 if edge.is_left else 10)
        return _Label(_words(edge.stream), x, (y0 + y1) / 2, edge.is_left)

    @property
    def ends(self) -> tuple[float, float]:
        width = max(map(len, self.lines)) * SMALL_LETTER
        return (self.x - width, self.x) if self.is_left else (self.x, self.x + width)


def _points(edge: StreamEdge) -> list[tuple[float, float]]:
    """Where a stream leaves a box, passes layers, and enters a box."""
    first, *between, last = edge.way
    return [
        (first.x, first.y + BOX_HEIGHT / 2),
        *((node.x, node.y) for node in between),
        (last.x, last.y - BOX_HEIGHT / 2),
    ]


def _edge(edge: StreamEdge) -> str:
    points, label = _points(edge), _Label.of(edge)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        path += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    x, y = points[-1]
    arrow = f"M{x - 4:.1f} {y - 8:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 8:.1f}"
    first, second = map(escape, label.lines)
    name, bits = (escape(str(edge.stream[key])) for key in ("name", "bits"))
    anchor = "end" if label.is_left else "start"
    return (
        f'<g class="stream" data-stream="{name}" text-anchor="{anchor}">'
        f"<title>{name}: {first}, {second}, {bits} bits a beat</title>"
        f'<path d="{path}"/><path d="{arrow}"/>'
        f'<text x="{label.x:.1f}" y="{label.y - 3:.1f}">{first}</text>'
        f'<text x="{label.x:.1f}" y="{label.y + 12:.1f}">{second}</text></g>'
    )


def _box(node: Box) -> str:
    left, top, width = node.x - node.width / 2, node.y - BOX_HEIGHT / 2, node.width
    first = node.y - 5 * len(node.lines) + 1 if node.lines else node.y + 5
    lines = "".join(
        f'<text class="detail" x="{node.x:.1f}" y="{first + 15 * i:.1f}">{escape(line)}</text>'
        for i, line in enumerate(node.lines, start=1)
    )
    busy = (
        f'<rect class="busy" x="{left + 1:.1f}" y="{top + BOX_HEIGHT - 5:.1f}" height="4" '
        f'width="{node.share * (width - 2):.1f}"/>'
        if node.share
        else ""
    )
    limit = " limit" if node.share == 1 else ""
    return (
        f'<g class="stage {escape(node.kind)}{limit}" data-stage="{escape(node.name)}">'
        f"<title>{escape(node.tip or node.name)}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="6"/>'
        f'{busy}<text x="{node.x:.1f}" y="{first:.1f}">{escape(node.name)}</text>{lines}</g>'
    )
