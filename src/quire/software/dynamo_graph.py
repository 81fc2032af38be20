"""A graph of Dynamo as a module that `capture` takes: parameters held, module paths of the model.

Dynamo hands parameters over as inputs, and names modules from the frame that it compiles, which is
a submodule's after a graph break.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.traceback import preserve_node_meta

from quire.errors import CompileError

_STACK = "nn_module_stack"
DROPOUTS_DIFFER = (
    "some dropouts of the model are in training mode and others are not, and a compiled graph has"
    " one mode: call train() or eval() of the whole model"
)
_STEP = re.compile(r"\.?\b_(?:modules|parameters|buffers)\b|\[['\"]?([^'\"\]]+)['\"]?\]|\.?(\w+)")


@dataclass(frozen=True)
class Held:
    """An input of the graph that is a parameter or buffer; `path` is seen from the frame."""

    path: str


@dataclass(frozen=True)
class Size:
    """An input that is the size of another one: input `index` of the rest, its axis `axis`."""

    index: int
    axis: int


@dataclass(frozen=True)
class Given:
    """An input that a caller gives; `free` are the axes of which Dynamo does not fix the size."""

    free: tuple[int, ...]


Slot = Held | Size | Given


@dataclass(frozen=True)
class DynamoGraph:
    """A copy of Dynamo's graph, and what each of its inputs is."""

    module: GraphModule
    slots: tuple[Slot, ...]

    @staticmethod
    def of(graph: GraphModule, inputs: Sequence[Any]) -> DynamoGraph:
        """graph, inputs: as Dynamo gives them to a backend."""
        placeholders = graph.graph.find_nodes(op="placeholder")
        slots: list[Slot] = []
        given: list[Any] = []
        for node, value in zip(placeholders, inputs, strict=True):
            slot = _slot(node, value, given)
            if isinstance(slot, Given):
                given.append(node.meta.get("example_value"))
            slots.append(slot)
        return DynamoGraph(GraphModule(graph, _copied(graph.graph)), _located(slots, placeholders))

    @property
    def is_training(self) -> bool:
        """Whether a dropout of the graph is active: Dynamo has compiled each mode apart.

        Raises `CompileError` where some are and others are not, since a graph has one mode.
        """
        active = {bool(flag) for node in self.module.graph.nodes for flag in _dropout_flags(node)}
        if len(active) > 1:
            raise CompileError(DROPOUTS_DIFFER)
        return True in active

    def split(self, args: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
        """The tensors of modules among the arguments of a call, and what the caller gave."""
        pairs = list(zip(self.slots, args, strict=True))
        held = [value for slot, value in pairs if isinstance(slot, Held)]
        return held, [value for slot, value in pairs if isinstance(slot, Given)]

    def bound(self, held: Sequence[Tensor], root: nn.Module | None) -> nn.Module:
        """A module of the graph that holds `held`, with the module paths of `root`."""
        paths = [slot.path for slot in self.slots if isinstance(slot, Held)]
        prefix = _prefix(paths, held, root)
        copy = GraphModule(self.module, _copied(self.module.graph))
        for node in copy.graph.nodes:
            _rename(node, prefix)
        return _Bound(copy, self.slots, held)


_INACTIVE = ("alpha_dropout", "feature_alpha_dropout")
"""The functions of `nn.functional` that drop nothing unless they are told to."""


def _dropout_flags(node: Node) -> Sequence[Any]:
    """Whether a call of dropout is active, as its arguments say; nothing for other nodes."""
    name = getattr(node.target, "__name__", "")
    if name == "scaled_dot_product_attention":  # with 0 it may have no dropout at all
        return [True] if _argument(node, "dropout_p", 4, 0.0) else []
    if "dropout" not in name:
        return []
    flag = "train" if "train" in node.kwargs else "training"  # of torch.dropout, of nn.functional
    return [_argument(node, flag, 2, name not in _INACTIVE)]


def _argument(node: Node, name: str, index: int, default: Any) -> Any:
    return node.kwargs.get(name, node.args[index] if len(node.args) > index else default)


class _Bound(nn.Module):
    """A graph of Dynamo that holds its parameters; it takes the other inputs as one tuple."""

    def __init__(self, graph: GraphModule, slots: Sequence[Slot], held: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph, self._slots = graph, slots
        self._names = [f"held_{index}" for index in range(len(held))]
        for name, tensor in zip(self._names, held, strict=True):
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, inputs: tuple[Any, ...]) -> Any:
        held = iter([getattr(self, name) for name in self._names])
        given = iter(inputs)
        values: list[Any] = []
        for slot in self._slots:
            if isinstance(slot, Size):
                values.append(inputs[slot.index].shape[slot.axis])
            else:
                values.append(next(held if isinstance(slot, Held) else given))
        with preserve_node_meta():
            return Interpreter(self.graph).run(*values)


def _slot(node: Node, value: Any, given: list[Any]) -> Slot:
    meta: dict[str, Any] = node.meta.get("tensor_dict") or {}
    if isinstance(value, nn.Parameter) or "_dynamo_static_input_type" in meta:
        return Held(path_of(_source(node)))
    if isinstance(value, torch.SymInt):
        return Size(-1, -1)
    example = node.meta.get("example_value")
    sizes: Sequence[Any] = example.shape if isinstance(example, Tensor) else ()
    return Given(tuple(i for i, size in enumerate(sizes) if isinstance(size, torch.SymInt)))


def _located(slots: list[Slot], placeholders: list[Node]) -> tuple[Slot, ...]:
    """The slots, those of sizes with the axis that they are the size of; others are given."""
    axes: dict[str, Size] = {}
    index = 0
    for slot, node in zip(slots, placeholders, strict=True):
        if isinstance(slot, Given):
            example = node.meta.get("example_value")
            for axis in slot.free:
                assert isinstance(example, Tensor)
                axes.setdefault(str(example.shape[axis]), Size(index, axis))
            index += 1
    found: list[Slot] = []
    for slot, node in zip(slots, placeholders, strict=True):
        is_size = isinstance(slot, Size)
        found.append(axes.get(str(node.meta.get("example_value")), slot) if is_size else slot)
    return tuple(found)


def _copied(graph: Graph) -> Graph:
    """A graph of its own; what Dynamo clears after compiling is not kept alive."""
    new = Graph()
    result: Any = new.graph_copy(graph, {})
    new.output(result)
    for node in new.nodes:
        node.meta = {key: value for key, value in node.meta.items() if key != "grapharg"}
    return new


def _source(node: Node) -> str:
    """How Dynamo reads an input: "L['self']._modules['fc1']._parameters['weight']"."""
    name: Any = getattr(getattr(node, "_dynamo_source", None), "name", node.name)
    return str(name() if callable(name) else name)


def path_of(source: str) -> str:
    """The module path in a name of Dynamo's, seen from the variable that it starts at:
    "fc1.weight" for the source above, "layers.0" for "L['self'].layers.0"."""
    rest = re.sub(r"^[LG]\[['\"][^'\"]*['\"]\]", "", source)
    return ".".join(filter(None, (a or b for a, b in _STEP.findall(rest))))


def _rename(node: Node, prefix: str) -> None:
    """Give a node the module paths of the model; what the frame's own module does has none yet."""
    stack = node.meta.get(_STACK) or {"": ("", "")}
    node.meta[_STACK] = {
        key: (_joined(prefix, path_of(path)), kind) for key, (path, kind) in stack.items()
    }


def _joined(prefix: str, path: str) -> str:
    return ".".join(filter(None, (prefix, path)))


def _prefix(paths: Iterable[str], held: Sequence[Tensor], root: nn.Module | None) -> str:
    """The path in `root` of the module whose frame Dynamo compiled."""
    if root is None:
        return ""
    names: dict[int, list[str]] = {}
    tensors = [*root.named_parameters(remove_duplicate=False)]
    tensors += [*root.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        names.setdefault(id(tensor), []).append(name)
    for path, tensor in zip(paths, held, strict=True):
        for name in names.get(id(tensor), ()):
            if name == path or name.endswith(f".{path}"):
                return name.removesuffix(path).rstrip(".")
    return _path_of_caller(root)


def _path_of_caller(root: nn.Module) -> str:
    """The path of the innermost module that is being called."""
    paths = {id(module): path for path, module in root.named_modules()}
    return next((paths[id(m)] for m in modules_on_stack() if id(m) in paths), "")


def modules_on_stack() -> list[nn.Module]:
    """The modules that are being called, the innermost first."""
    found: list[nn.Module] = []
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        names = frame.f_code.co_varnames[:1] if frame.f_code.co_argcount else ()
        first = frame.f_locals.get(names[0]) if names else None
        if isinstance(first, nn.Module):
            found.append(first)
        frame = frame.f_back
    return found


def root_module() -> nn.Module | None:
    """The module that `torch.compile` was given, of those that are being called."""
    modules = modules_on_stack()
    compiled = (m for m in modules if isinstance(getattr(m, "_orig_mod", None), nn.Module))
    wrapper = next(compiled, None)
    if wrapper is not None:
        return cast("nn.Module", wrapper._orig_mod)
    return modules[-1] if modules else None
