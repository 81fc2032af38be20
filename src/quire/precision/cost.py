"""What a plan costs before anything runs: average bits, bytes of its checkpoint, bit operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod

from torch.fx import GraphModule

from quire.formats import parse
from quire.graph.rewrite import attribute
from quire.graph.sites import Site, sites
from quire.precision.cast import Axis
from quire.precision.container import TensorSpec, file_size
from quire.precision.entry import Entry, axis_of
from quire.precision.inputs import input_specs
from quire.precision.plan import Plan, resolve
from quire.precision.rows import Shape, flatten_shape
from quire.precision.stored import Use, code_tensors, contents, uses

FP32 = Entry(parse("fp32"))
KINDS = ("weight", "activation")  # the roles of operands


@dataclass(frozen=True)
class Cost:
    """The cost of a plan for one example.

    bits: stored bits over elements, of all operands of products; scales count, padding does not,
        and a tied tensor counts once. weight_bits, activation_bits: the same of either kind alone
        (0 where there is none).
    memory: bytes of the checkpoint file, rows aligned to bytes and the header included.
    macs: multiply-accumulates. bitops: the sum of MACs x weight bits x activation bits, the bits
        being those of one element's code.
    """

    bits: float
    weight_bits: float
    activation_bits: float
    memory: int
    macs: int
    bitops: int

    def metrics(self) -> dict[str, float]:
        """The costs by name."""
        return {name: float(value) for name, value in asdict(self).items()}


class CostModel:
    """The costs of plans for one graph, prepared once; a plan then takes a fraction of 1 ms.

    sites: those of the graph.
    """

    def __init__(self, graph: GraphModule) -> None:
        self.sites = sites(graph)
        operands = [site for site in self.sites.values() if site.is_operand]
        calls: dict[str, list[Site]] = {}
        for site in operands:
            if site.macs:
                calls.setdefault(site.node, []).append(site)
        self._products = [(a.macs, a.tie, b.tie) for a, b in calls.values()]
        self._macs = sum(macs for macs, _, _ in self._products)
        self._groups = {site.tie: self.sites[site.tie] for site in operands}
        self._patches = {s.tie: _patches(s, call) for call in calls.values() for s in call}
        edges = {(s.node, s.arg): s.tie for s in self.sites.values() if s.arg is not None}
        self._uses = uses(graph, edges)
        self._values = _specs(graph, {p for use in self._uses for p in use.parameters})
        self._inputs = input_specs(graph)
        self._bits: dict[tuple[str, str, Axis], float] = {}
        self._codes: dict[tuple[str, str, Axis], dict[str, TensorSpec]] = {}

    def __call__(self, plan: Plan) -> Cost:
        """The cost of a plan; raises `PlanError` where it does not fit the graph."""
        entries = resolve(plan, self.sites)
        operands = {group: entries.get(group, FP32) for group in self._groups}
        stored: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        elements: dict[str, int] = dict.fromkeys(KINDS, 0)
        for group, site in self._groups.items():
            kind = "activation" if site.role == "activation" else "weight"
            stored[kind] += self._storage_bits(site, operands[group])
            elements[kind] += site.elements
        width = {group: entry.format.bits for group, entry in operands.items()}
        settled = plan.without_corrections() if plan.has_corrections else plan
        return Cost(
            bits=sum(stored.values()) / sum(elements.values()) if operands else 0.0,
            weight_bits=stored["weight"] / max(elements["weight"], 1),
            activation_bits=stored["activation"] / max(elements["activation"], 1),
            memory=self._memory(settled, entries),
            macs=self._macs,
            bitops=sum(macs * width[a] * width[b] for macs, a, b in self._products),
        )

    def _storage_bits(self, site: Site, entry: Entry) -> float:
        axis = axis_of(site, entry)
        key = (site.name, entry.text, axis)
        if key not in self._bits:
            shape, axis = self._patches.get(site.name) or flatten_shape(site.shape, axis)
            share = site.elements / max(prod(shape), 1)
            self._bits[key] = entry.format.storage_bits(shape, axis) * share
        return self._bits[key]

    def _memory(self, plan: Plan, entries: Mapping[str, Entry]) -> int:
        held = contents(self._uses, entries.keys())
        tensors = {name: self._values[name] for name in held.plain}
        for group, (use, *_) in held.coded.items():
            tensors |= self._code_tensors(use, group, entries[group])
        return file_size(tensors, plan.to_json(), self._inputs)

    def _code_tensors(self, use: Use, group: str, entry: Entry) -> dict[str, TensorSpec]:
        axis = axis_of(self.sites[group], entry)
        key = (group, entry.text, axis)
        if key not in self._codes:
            self._codes[key] = code_tensors(use, entry, axis)
        return self._codes[key]


def cost(graph: GraphModule, plan: Plan) -> Cost:
    """The cost of one plan. For many plans of one graph, make a `CostModel`."""
    return CostModel(graph)(plan)


def _patches(site: Site, call: list[Site]) -> tuple[Shape, int] | None:
    """Shape (outputs, window) and axis of the patches of a convolution's input, else None.

    Blocks lie in the patches, but the input is stored once, so it has the bits a value of those.
    """
    if isinstance(site.axis, int) or site.role == "weight":
        return None
    (kernel,) = (other for other in call if other is not site)
    return (site.macs // kernel.elements, prod(kernel.shape[1:])), 1


def _specs(graph: GraphModule, names: Iterable[str]) -> dict[str, TensorSpec]:
    return {name: TensorSpec.of(attribute(graph, name)) for name in names}
