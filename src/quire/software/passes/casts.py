"""The casts of a graph as records, and where a tensor got its format."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch.fx import Node

from quire.ops.movement import MOVEMENT
from quire.precision.cast import Axis, StaticScale
from quire.precision.cast import cast as quire_cast


class Cast(NamedTuple):
    """The arguments of a cast besides its tensor."""

    format: str
    axis: Axis
    scale: StaticScale

    @staticmethod
    def of(node: Node) -> Cast:
        """The arguments of a call of `quire.cast`, with its defaults."""
        _, format, *rest = node.args
        defaults = (-1, node.kwargs.get("scale"))
        axis, scale = (*rest, *defaults[len(rest) :])
        return Cast(cast("str", format), cast("Axis", axis), cast("StaticScale", scale))

    def __str__(self) -> str:
        return f"{self.format} along axis {self.axis}"


def cast_behind(node: Node) -> Node | None:
    """The cast from which a tensor comes by data movement alone."""
    while node.target in MOVEMENT.targets and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node if node.target is quire_cast else None
