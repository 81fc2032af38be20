"""Which tensors a checkpoint holds of a graph, and in what form.

A parameter whose every use passes a cast is held as the codes of that cast, and every other
parameter as its values. Both `cost` and `save` decide by these functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.precision.cast import Axis
from quire.precision.constants import constant_nodes
from quire.precision.container import TensorSpec
from quire.precision.entry import Entry
from quire.precision.rows import Shape, layout


@dataclass(frozen=True)
class Use:
    """An edge on which a constant leaves the part of a graph that needs no input.

    source: the constant; user: where it goes; parameters: the names that it is computed from;
    group: the tie group of the edge, or None where no format can be chosen.
    """

    source: Node
    user: Node
    parameters: frozenset[str]
    group: str | None

    @property
    def name(self) -> str:
        """The name of its codes in a file: the parameter's, or the group's and a mark if computed,
        since a folded weight and the raw one may both be held."""
        held = self.source.op == "get_attr"
        return str(self.source.target) if held else f"{self.group}#computed"

    @property
    def shape(self) -> Shape:
        return tuple(self.source.meta["val"].shape)


@dataclass(frozen=True)
class Contents:
    """What a file holds: {tie group: its uses}, in codes, and names of parameters, as values."""

    coded: dict[str, list[Use]]
    plain: list[str]


def uses(graph: GraphModule, groups: Mapping[tuple[str, int], str]) -> list[Use]:
    """Every edge from the constant part of `graph` to the rest, in graph order.

    groups: {(consumer's name, argument): tie group}.
    """
    constants = constant_nodes(graph)
    return [
        Use(source, user, constants[source], groups.get((user.name, position)))
        for user in graph.graph.nodes
        if user not in constants
        for position, source in enumerate(_inputs(user))
        if isinstance(source, Node) and source in constants
    ]


def contents(found: Iterable[Use], cast: Collection[str]) -> Contents:
    """What is held of these uses; codes that would not spare the values of a parameter are not.

    cast: the tie groups with a cast.
    """
    found = list(found)
    plain = {p for use in found if use.group not in cast for p in use.parameters}
    coded: dict[str, list[Use]] = {}
    for use in found:
        if use.group in cast and use.parameters - plain:
            coded.setdefault(str(use.group), []).append(use)
    return Contents(coded, sorted(plain))


def code_tensors(use: Use, entry: Entry, axis: Axis) -> dict[str, TensorSpec]:
    """{name in the file: dtype and shape} of a constant in codes."""
    parts = layout(entry.format, use.shape, axis)
    return {f"{use.name}.{part}": TensorSpec(torch.uint8, size) for part, size in parts.items()}


def _inputs(node: Node) -> list[Any]:
    """The arguments of a call, first those with a position."""
    return [*node.args, *(n for n in node.all_input_nodes if n not in node.args)]
