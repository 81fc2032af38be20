"""`Switchable`: one graph that takes plan after plan, for searches.

Every edge with a site passes a slot, a module that holds the format of the moment. Changing plans
sets the slots: nothing is captured, copied or compiled again, and quantized weights are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from quire.graph.masks import masked_softmaxes
from quire.graph.open_convolution import open_convolution
from quire.graph.rewrite import attribute
from quire.graph.sites import Site, sites
from quire.ops.convolution import CONVOLUTION, convolve_patches, patches
from quire.ops.mask import keep_masked, mask_threshold
from quire.ops.softmax import SAFE, safe_options
from quire.precision.cast import cast as quire_cast
from quire.precision.constants import constant_nodes
from quire.precision.copying import copy_graph
from quire.precision.entry import Entry
from quire.precision.plan import Plan, resolve
from quire.precision.quantize import (
    CastArgs,
    call_arguments,
    cast_args,
    needs_patches,
    round_constant,
)


class Switchable:
    """A captured graph, ready to run under any plan.

    It shares the parameters of the graph, and computes bit for bit what `quantize` gives.
    """

    def __init__(self, graph: GraphModule) -> None:
        self._sites = sites(graph)
        self._module = copy_graph(graph)
        self._slots = _insert_slots(self._module, self._sites)
        self._module.recompile()
        self._readers: dict[str, list[WeightSlot]] = {}
        for slot in self._slots:
            if isinstance(slot, WeightSlot) and slot.site.parameter is not None:
                self._readers.setdefault(slot.site.parameter, []).append(slot)

    def use(self, plan: Plan, parameters: Mapping[str, Tensor] | None = None) -> GraphModule:
        """The graph under `plan`, until the next call of `use`; always the same module.

        parameters: {`Site.parameter` or `Site.bias`: a value in its place}, as corrections give
            them. It trains no parameter.

        Raises `PlanError` where the plan does not fit the graph.
        """
        entries = resolve(plan, self._sites)
        for slot in self._slots:
            slot.set(entries.get(slot.site.tie))
        for name, slots in self._readers.items():
            for slot in slots:
                slot.value = parameters.get(name) if parameters else None
        return self._module


class Slot(nn.Module):
    """The place of a cast: holds the entry of the moment, or None where nothing is cast."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.entry: Entry | None = None
        self.cast_args: CastArgs | None = None

    def set(self, entry: Entry | None) -> None:
        """Take the entry of a plan."""
        if entry is not self.entry:
            self.entry = entry
            self.cast_args = None if entry is None else cast_args(self.site, entry)

    def cast(self, x: Tensor) -> Tensor:
        """The cast of the entry, or the identity."""
        return x if self.cast_args is None else quire_cast(x, *self.cast_args)


class TensorSlot(Slot):
    """A slot on a tensor that depends on the input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.cast(x)


class WeightSlot(Slot):
    """A slot on a tensor that is computed from `parameters` alone: keeps what it has cast.

    The kept tensors are dropped when a parameter changes, and not used where gradients are needed.
    value: what is cast in the place of the tensor, if anything.
    """

    def __init__(self, site: Site, parameters: Sequence[Tensor]) -> None:
        super().__init__(site)
        self._parameters_used = list(parameters)
        self._versions: list[Any] = []
        self._kept: dict[tuple[CastArgs, int | None], tuple[Tensor, Tensor | None]] = {}
        self.value: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.value is None else self.value
        if self.cast_args is None or torch.is_grad_enabled():
            return self.cast(x)
        versions = [(p._version, p.data_ptr(), p.dtype) for p in self._parameters_used]
        if versions != self._versions:
            self._versions, self._kept = versions, {}
        key = self.cast_args, None if self.value is None else id(self.value)
        if key not in self._kept:
            self._kept[key] = self.cast(x), self.value  # held, so that no other one gets its id
        return self._kept[key][0]


class ConstantSlot(Slot):
    """A slot on a scalar constant."""

    def forward(self, x: float) -> float:
        return x if self.entry is None else round_constant(x, self.entry.format)


class ConvolutionSlot(Slot):
    """A convolution with the slot of its input, whose blocks lie in patches.

    window: the arguments of `patches` for this convolution, after the tensor.
    """

    def __init__(self, site: Site, target: Callable[..., Tensor], window: tuple[Any, ...]) -> None:
        super().__init__(site)
        self._target, self._window = target, window

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *settings: Any
    ) -> Tensor:
        if self.entry is None or not needs_patches(self.site, self.entry.format):
            return self._target(self.cast(x), weight, bias, *settings)
        windows = self.cast(patches(x, *self._window))
        return convolve_patches(windows, weight, bias)


class ScoresSlot(Slot):
    """A softmax with the slot of its input, whose cast leaves masked scores out."""

    def __init__(self, site: Site, target: Callable[..., Tensor]) -> None:
        super().__init__(site)
        self._target = target

    def forward(self, x: Tensor, *options: Any) -> Tensor:
        if self.entry is None:
            return self._target(x, *options)
        kept = keep_masked(self.cast(x), x, mask_threshold(self.entry.format))
        return SAFE(kept, *safe_options(self._target, *options))


def _insert_slots(module: GraphModule, known: dict[str, Site]) -> list[Slot]:
    """Put a slot on the edge of every site; edges of one tensor and group share one."""
    nodes = {node.name: node for node in module.graph.nodes}
    inserting = _Inserting(module)
    for site in sorted(known.values(), key=lambda site: site.arg is not None):
        inserting.insert(site, nodes[site.node])
    return inserting.slots


class _Inserting:
    """A graph that gets its slots."""

    def __init__(self, module: GraphModule) -> None:
        self.slots: list[Slot] = []
        self._module = module
        self._constants = constant_nodes(module)
        self._softmaxes = masked_softmaxes(module)
        self._calls: dict[tuple[Node, str], Node] = {}

    def insert(self, site: Site, node: Node) -> None:
        """Put the slot of a site on its edge; a table has none, and serves `exact` alone."""
        if site.role == "table":
            return
        if site.arg is None:
            self._after(site, node)
        elif site.op == CONVOLUTION.name and site.arg == 0:
            self._convolution(site, node)
        elif site.node in self._softmaxes:
            target = cast("Callable[..., Tensor]", node.target)
            node.op, node.target = "call_module", self._add(ScoresSlot(site, target))
        else:
            self._before(site, site.arg, node)

    def _add(self, slot: Slot) -> str:
        name = f"quire_slot_{len(self.slots)}"
        self.slots.append(slot)
        self._module.add_submodule(name, slot)
        return name

    def _after(self, site: Site, node: Node) -> None:
        graph = self._module.graph
        last = graph.find_nodes(op="placeholder")[-1] if node.op == "placeholder" else node
        with graph.inserting_after(last):
            call = self._call(TensorSlot(site), node)
        node.replace_all_uses_with(call, lambda user: user is not call)

    def _before(self, site: Site, position: int, node: Node) -> None:
        arguments, spec = call_arguments(node)
        value = arguments[position]
        key = (value, site.tie)
        if key not in self._calls:
            with self._module.graph.inserting_before(node):
                self._calls[key] = self._call(self._slot(site, value), value)
        arguments[position] = self._calls[key]
        node.args = pytree.tree_unflatten(arguments, spec) if spec else tuple(arguments)

    def _call(self, slot: Slot, value: Any) -> Node:
        """A call of a slot at the insertion point."""
        call = self._module.graph.call_module(self._add(slot), (value,))
        call.meta = dict(value.meta) if isinstance(value, Node) else {}
        return call

    def _convolution(self, site: Site, node: Node) -> None:
        with self._module.graph.inserting_before(node):
            twin = self._module.graph.node_copy(node, lambda n: n)
        window, product = open_convolution(self._module, twin)
        target = cast("Callable[..., Tensor]", node.target)
        node.target = self._add(ConvolutionSlot(site, target, window.args[1:]))
        node.op = "call_module"
        for opened in (product, window):
            self._module.graph.erase_node(opened)

    def _slot(self, site: Site, value: object) -> Slot:
        if not isinstance(value, Node):
            return ConstantSlot(site)
        if value in self._constants:
            names = self._constants[value]
            return WeightSlot(site, [attribute(self._module, name) for name in names])
        return TensorSlot(site)
