"""What a graph computes from its parameters alone, computed once: cast and joined weights.

For inference: the values carry no gradient. They follow their parameters: before each call the
version counters of PyTorch tell whether one was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node

from quire.graph.rewrite import attribute
from quire.ops.movement import MOVEMENT

HOME = "quire_static"
"""The submodule that holds the values; no dot, so that no module of a model has the name."""


class Static:
    """The values that `hold_static` took out of a graph, and how they are computed.

    names: of the nodes that they stand for.
    """

    def __init__(self, recipe: GraphModule, names: tuple[str, ...]) -> None:
        self.names = names
        self._recipe = recipe
        held = (attribute(recipe, str(n.target)) for n in recipe.graph.find_nodes(op="get_attr"))
        self._sources = list({id(tensor): tensor for tensor in held}.values())
        self.values = self._computed()
        _finish(self.values)
        self._stamp = stamps(self._sources)

    def refresh(self, *, force: bool = False) -> bool:
        """Compute the values again, in place, if a parameter was written; whether that was so.

        A write through `parameter.data` is no write to PyTorch, nor is one to a parameter that was
        made in inference mode: `force` for those.
        """
        stamp = stamps(self._sources)
        if stamp == self._stamp and not force:
            return False
        with torch.inference_mode(False), torch.no_grad():
            for value, new in zip(self.values, self._computed(), strict=True):
                value.copy_(new)
        _finish(self.values)
        self._stamp = stamp
        return True

    def _computed(self) -> list[Tensor]:
        # Values of a call under inference_mode could not be written in one under no_grad.
        with torch.inference_mode(False), torch.no_grad():
            return list(self._recipe())


def _finish(values: Iterable[Tensor]) -> None:
    """Wait until the values are there: the next call may run on another stream."""
    if not torch.cuda.is_initialized() or torch.cuda.is_current_stream_capturing():
        return
    for device in {value.device for value in values if value.is_cuda}:
        torch.cuda.current_stream(device).synchronize()


def stamps(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """What changes where one of the tensors is written, but for writes through `data`."""
    return [(_version(tensor), tensor.data_ptr()) for tensor in tensors]


def _version(tensor: Tensor) -> int:
    """How often a tensor was written; not counted for one made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def hold_static(graph: GraphModule) -> Static | None:
    """Replace in `graph`, in place, what is computed from parameters alone by buffers.

    Views and copies of parameters are left, and so is what no parameter enters, and what is drawn
    anew in each call, such as noise on a weight. None where nothing is left to replace.
    """
    static = _static_nodes(graph)
    ends = [n for n in static if _is_tensor(n) and _is_worth_it(n) and _is_read(n, static)]
    if not ends:
        return None
    found = Static(_recipe(graph, static, ends), tuple(node.name for node in ends))
    graph.add_submodule(HOME, nn.Module())
    home = graph.get_submodule(HOME)
    for index, (node, value) in enumerate(zip(ends, found.values, strict=True)):
        home.register_buffer(str(index), value, persistent=False)
        with graph.graph.inserting_before(node):
            held = graph.graph.get_attr(f"{HOME}.{index}")
        held.meta = dict(node.meta)
        node.replace_all_uses_with(held)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return found


def _static_nodes(graph: GraphModule) -> dict[Node, None]:
    """The nodes that need no input and are the same in each call, in the order of the graph."""
    found: dict[Node, None] = {}
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        is_call = node.op == "call_function" and bool(sources) and not _differs(node.target)
        if node.op == "get_attr" or (is_call and all(source in found for source in sources)):
            found[node] = None
    return found


def _differs(target: Any) -> bool:
    """Whether an op gives something else in each call: a random number, or what it wrote itself."""
    if not isinstance(target, OpOverload):
        return False
    is_mutable = target._schema.is_mutable  # pyright: ignore[reportPrivateUsage]
    return is_mutable or torch.Tag.nondeterministic_seeded in target.tags


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _is_worth_it(node: Node) -> bool:
    """Whether more than data movement lies between parameters and a value."""
    if node.op == "get_attr":
        return False
    sources = node.all_input_nodes
    return node.target not in MOVEMENT.targets or len(sources) > 1 or _is_worth_it(sources[0])


def _is_read(node: Node, static: dict[Node, None]) -> bool:
    """Whether what depends on inputs reads the node."""
    return any(user not in static for user in node.users)


def _recipe(graph: GraphModule, static: dict[Node, None], ends: list[Node]) -> GraphModule:
    """A module without inputs that computes `ends` from the parameters of `graph`."""
    new = Graph()
    copies: dict[Node, Node] = {}
    copied: Callable[[Node], Node] = copies.__getitem__
    for node in static:
        copies[node] = new.node_copy(node, copied)
    results: Any = tuple(copies[node] for node in ends)
    new.output(results)
    new.eliminate_dead_code()
    return GraphModule(graph, new)
