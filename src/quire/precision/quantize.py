"""`quantize`: a graph with the casts of a plan on its edges."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from quire.errors import PlanError
from quire.formats import Format
from quire.graph.masks import masked_softmaxes
from quire.graph.open_convolution import open_convolution
from quire.graph.rewrite import arguments, attribute
from quire.graph.sites import Site, sites
from quire.graph.types import type_of
from quire.ops.convolution import CONVOLUTION
from quire.ops.mask import keep_masked, mask_threshold
from quire.ops.softmax import SAFE, safe_options
from quire.precision.cast import Axis, StaticScale, cast
from quire.precision.copying import copy_graph
from quire.precision.entry import Entry, axis_of
from quire.precision.plan import Plan, resolve
from quire.precision.settings import SETTINGS, settings

CastArgs = tuple[str, Axis, StaticScale]


def quantize(graph: GraphModule, plan: Plan) -> GraphModule:
    """A copy of a captured graph with a `quire.cast` on the edge of every site in the plan.

    Parameters and buffers are shared with `graph`; training the copy (straight-through) trains
    them. Operands that share a tensor and a format share one cast. A scalar constant is replaced
    by its rounded value. A cast of scores before a softmax leaves the masked ones out
    (`keep_masked`), and a row of those gives zeros. A convolution whose input has a block format
    becomes `patches`, their cast, and `convolve_patches`: the blocks run along the flattened
    (in/groups, *kernel) of each window, its zero padding included. Raises `PlanError` where the
    plan does not fit the graph or has corrections, which `quire.correct` makes first, and for a
    graph that has the casts of a plan already.
    """
    known = sites(graph)
    if graph.meta.get("quire_plan"):
        raise PlanError(
            "this graph has the casts of a plan already, and would round twice: give quantize the "
            "graph that quire.capture made"
        )
    entries = resolve(plan, known)
    for group, entry in entries.items():
        if entry.is_pending:
            raise PlanError(
                f"{group} is {entry}, and corrections need data: let graph, plan = "
                "quire.correct(graph, plan, calibration), and take these"
            )
    quantized = copy_graph(graph)
    placing = _Placing(quantized)
    chosen = [(site, entries[site.tie]) for site in known.values() if site.tie in entries]
    for site, entry in sorted(chosen, key=lambda pair: pair[0].arg is not None):
        placing.place(site, entry)
    quantized.graph.eliminate_dead_code()
    quantized.graph.lint()
    quantized.recompile()
    quantized.meta["quire_plan"] = Plan(plan)
    return quantized


def cast_args(site: Site, entry: Entry) -> CastArgs:
    """The arguments of the cast of a site; the axis of a format without blocks is immaterial."""
    axis = axis_of(site, entry) if entry.format.is_block else -1
    return entry.text, axis, entry.scale


def round_constant(value: float, format: Format) -> float:
    """A scalar constant rounded once into a format."""
    return float(format.quantize(torch.tensor(value, dtype=torch.float64)))


def needs_patches(site: Site, format: Format) -> bool:
    """Whether a format puts blocks into the windows of a convolution's input."""
    return format.is_block and site.op == CONVOLUTION.name and site.arg == 0


class _Placing:
    """A graph under quantization, and the casts that it has so far."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._graph = module.graph
        self._nodes: dict[str, Node] = {node.name: node for node in module.graph.nodes}
        self._softmaxes = masked_softmaxes(module)
        self._casts: dict[tuple[Hashable, CastArgs], Node] = {}

    def place(self, site: Site, entry: Entry) -> None:
        """Put the cast of a site on its edge."""
        node = self._nodes[site.node]
        node.meta[SETTINGS] = {**node.meta.get(SETTINGS, {}), **settings(site, entry)}
        if site.role == "table":
            return
        if site.arg is None:
            self._cast_result(node, site, entry)
            return
        if needs_patches(site, entry.format):
            _, node = open_convolution(self._module, node)
            self._nodes[site.node] = node
        values, spec = call_arguments(node)
        value = values[site.arg]
        if isinstance(value, Node):
            values[site.arg] = self._cast(value, node, site, entry)
        else:
            values[site.arg] = round_constant(value, entry.format)
        node.args = pytree.tree_unflatten(values, spec) if spec else tuple(values)
        if site.node in self._softmaxes:
            self._keep_masked(node, value, entry)

    def _cast(self, source: Node, consumer: Node, site: Site, entry: Entry) -> Node:
        """The cast of `source` for a consumer, made at its first use."""
        key = (self._tensor(source), cast_args(site, entry))
        if key not in self._casts:
            with self._graph.inserting_before(consumer):
                self._casts[key] = _insert_cast(source, site, entry)
        found = self._casts[key]
        found.meta["quire_sites"] = (*found.meta["quire_sites"], site.name)
        return found

    def _keep_masked(self, softmax: Node, scores: Node, entry: Entry) -> None:
        """Leave the masked scores out of the cast before a softmax, which has zeros there."""
        rounded, *options = arguments(softmax)
        with self._graph.inserting_before(softmax):
            threshold = mask_threshold(entry.format)
            kept = self._graph.call_function(keep_masked, (rounded, scores, threshold))
        kept.meta = {key: rounded.meta[key] for key in ("val", "quire_type", "quire_path")}
        softmax.target, softmax.args = SAFE, (kept, *safe_options(softmax.target, *options))

    def _tensor(self, source: Node) -> Hashable:
        """Equal for nodes of one tensor: a tied parameter may be read under several names."""
        is_held = source.op == "get_attr"
        return id(attribute(self._module, str(source.target))) if is_held else source

    def _cast_result(self, node: Node, site: Site, entry: Entry) -> None:
        after = self._graph.find_nodes(op="placeholder")[-1] if node.op == "placeholder" else node
        with self._graph.inserting_after(after):
            result = _insert_cast(node, site, entry)
        result.meta["quire_sites"] = (site.name,)
        node.replace_all_uses_with(result, lambda user: user is not result)


def call_arguments(node: Node) -> tuple[list[Any], pytree.TreeSpec | None]:
    """The positional arguments of a call; at the graph's output its flattened results."""
    if node.op == "output":
        return pytree.tree_flatten(node.args)
    return list(node.args), None


def _insert_cast(source: Node, site: Site, entry: Entry) -> Node:
    """A cast of `source` at the insertion point."""
    format, axis, scale = cast_args(site, entry)
    axes = (axis,) if entry.format.is_block else ()
    node = source.graph.call_function(cast, (source, format, *axes))
    if scale is not None:
        node.kwargs = {"scale": scale}
    type = type_of(source)
    assert type is not None
    node.meta.update(val=source.meta["val"], quire_type=replace(type, format=format))
    node.meta.update(quire_group=site.tie, quire_sites=(), quire_entry=entry)
    node.meta.update(quire_axis=axis_of(site, entry), quire_path=site.path)
    return node
