"""Readable, stable names of ops: the path of the module that issues them, and their part in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch.fx import Node

from quire.ops import op_of

_EDGES = {"placeholder": "input", "output": "output"}


def op_names(nodes: Sequence[Node]) -> dict[Node, str]:
    """A name for each of `nodes`, which have sites.

    A module that issues one op and holds no other lends it its path ("fc1", "fc1#2" at its second
    call). Another op is called by its label or kind within its module, the second of a kind with
    an index ("layers.0.attn.qk", "layers.0.add_1").
    """
    calls = Counter(_path(node) for node in nodes)
    parents = {parent for node in nodes for parent in _parents(_module(node))}
    seen: Counter[str] = Counter()
    names: dict[Node, str] = {}
    for node in nodes:
        path = _path(node)
        is_alone = path != "" and calls[path] == 1 and _module(node) not in parents
        names[node] = path if is_alone else _within(path, node, seen)
    return names


def _within(path: str, node: Node, seen: Counter[str]) -> str:
    if node.op in _EDGES:
        return _EDGES[node.op]
    op = op_of(node)
    assert op is not None
    name = ".".join(filter(None, (path, node.meta.get("quire_label", op.name))))
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _path(node: Node) -> str:
    return "" if node.op in _EDGES else node.meta["quire_path"]


def _module(node: Node) -> str:
    """The path without the number of the call."""
    return _path(node).partition("#")[0]


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
