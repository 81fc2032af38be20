"""The model of a search as plain data, for the drawing of its plans.

Boxes are products, and whatever else has a searched site, joins several values, or is an input or
an output. What lies between two boxes (a norm, a function) is words at their edge; what only moves
numbers, or scales them by constants, is left out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch.fx import GraphModule, Node

from quire.graph import Site, sites
from quire.graph.dataflow import Origin, origins
from quire.ops import op_of

Way: TypeAlias = tuple[int, str]
"""A box that a value comes from, and what it met since, in words."""

WORDS = {"layer_norm": "norm", "rms_norm": "norm", "average_pool": "pool", "max_pool": "pool"}
"""What ops are called at an edge, where that is not their name."""

QUIET = {
    *("movement", "creation", "dropout", "add", "sub", "mul", "div", "neg", "where"),
    *("added_mask", "causal_mask", "keep_masked", "patches", "adaptive_average_pool"),
}
"""Ops that are not worth a word at an edge."""

MOST_WORDS = 2
"""At one edge; the last ones."""


def draw(graph: GraphModule, searched: Iterable[str]) -> dict[str, Any]:
    """The boxes of a captured graph in the order of the data, and the edges between them.

    searched: names of sites; their ops are boxes.
    Returns {"boxes": [{"name", "op", "sites"}], "edges": [[from, to, words]]}, the sites of a box
    being its operands and those searched.
    """
    drawing = _Drawing(sites(graph), set(searched))
    origin = origins(graph)
    for node in graph.graph.nodes:
        if _is_data(node, origin[node]):
            drawing.add(node)
    return {"boxes": drawing.boxes, "edges": drawing.edges}


def _is_data(node: Node, origin: Origin) -> bool:
    """Whether a node holds numbers that depend on the inputs."""
    value = node.meta.get("val")
    is_value = node.op == "output" or isinstance(value, torch.Tensor | list | tuple)
    return is_value and not origin.is_static and not origin.is_index


class _Drawing:
    """Boxes and edges so far, and for each node the ways that lead to it."""

    def __init__(self, known: Mapping[str, Site], searched: set[str]) -> None:
        self.boxes: list[dict[str, Any]] = []
        self.edges: list[list[Any]] = []
        self._searched = searched
        self._ways: dict[Node, list[Way]] = {}
        self._sites: dict[str, list[Site]] = {}
        for site in known.values():
            self._sites.setdefault(site.node, []).append(site)

    def add(self, node: Node) -> None:
        """Make a box of a node, or hand on what leads to it."""
        sources = [source for source in node.all_input_nodes if source in self._ways]
        ways = list(dict.fromkeys(way for source in sources for way in self._ways[source]))
        own = self._sites.get(node.name, [])
        shown = [site.name for site in own if site.is_operand or site.name in self._searched]
        if node.op == "output" or shown or len({box for box, _ in ways}) != 1:
            self._ways[node] = [(self._box(node, own, shown, ways), "")]
        else:
            word = _word(node)
            self._ways[node] = list(dict.fromkeys((box, _joined(w, word)) for box, w in ways))[:1]

    def _box(self, node: Node, own: list[Site], shown: list[str], ways: list[Way]) -> int:
        name = own[0].name.removesuffix(f".{own[0].operand}") if own else node.name
        if node.op in ("placeholder", "output") and own:
            name = own[0].name
        op = op_of(node)
        kind = {"placeholder": "input", "output": "output"}.get(node.op) or (op.name if op else "")
        self.boxes.append({"name": name, "op": kind or _target(node), "sites": shown})
        self.edges += [[box, len(self.boxes) - 1, words] for box, words in ways]
        return len(self.boxes) - 1


def _word(node: Node) -> str:
    """What an op is called at an edge; nothing for one that only moves or scales numbers."""
    op = op_of(node)
    if op is None:
        return "" if _target(node) == "getitem" else _target(node)
    return "" if op.name in QUIET else WORDS.get(op.name, op.name)


def _target(node: Node) -> str:
    """The name of a function without its module and overload."""
    name = getattr(node.target, "__name__", str(node.target))
    return name.partition(".")[0]


def _joined(words: str, word: str) -> str:
    return " ".join([*words.split(), *word.split()][-MOST_WORDS:])
