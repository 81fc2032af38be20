"""Layers of a drawing: in which one a box stands, and its place there (Sugiyama 1981).

Boxes stand in layers by their longest path from an input; an edge that skips layers is led through
each of them. Layers run along one axis of a drawing, places along the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 4
PASS_SIZE = 26.0
"""What a passing edge takes in a layer, in pixels."""


@dataclass
class Node:
    """A box, or a place where an edge passes a layer. x, y: its centre."""

    name: str
    kind: str
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = PASS_SIZE


@dataclass
class Edge:
    """An edge through the nodes of its way."""

    way: list[Node] = field(default_factory=list[Node])


def set_layers(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    """The nodes are in the order of the data, so that one pass gives the longest paths."""
    before: dict[int, list[Node]] = {}
    for edge in edges:
        before.setdefault(id(edge.way[-1]), []).append(edge.way[0])
    for node in nodes:
        node.layer = max((n.layer for n in before.get(id(node), [])), default=-1) + 1


def led_through(edges: Sequence[Edge]) -> list[Node]:
    """Places in the layers that an edge skips; they join its way."""
    passes: list[Node] = []
    for edge in edges:
        first, last = edge.way
        between = range(first.layer + 1, last.layer)
        edge.way = [first, *(Node("", "pass", layer) for layer in between), last]
        passes += edge.way[1:-1]
    return passes


def in_layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes by layer."""
    layers: list[list[Node]] = [[] for _ in range(max(node.layer for node in nodes) + 1)]
    for node in nodes:
        layers[node.layer].append(node)
    return layers


def order(layers: list[list[Node]], edges: Sequence[Edge]) -> None:
    """Sort each layer by the mean place of its neighbours, down and up again."""
    steps = [pair for edge in edges for pair in pairwise(edge.way)]
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        place = {id(node): float(i) for layer in layers for i, node in enumerate(layer)}
        for layer in layers if down else reversed(layers):
            means = {id(node): _mean(node, steps, place, down) for node in layer}
            layer.sort(key=lambda node: means[id(node)])
            place.update({id(node): float(i) for i, node in enumerate(layer)})


def _mean(
    node: Node, steps: Sequence[tuple[Node, Node]], place: Mapping[int, float], down: bool
) -> float:
    near = [place[id(a if down else b)] for a, b in steps if (b if down else a) is node]
    return sum(near) / len(near) if near else place[id(node)]
