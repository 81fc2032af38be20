"""What a plan costs before anything runs: average bits, bytes of its checkpoint, bit operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod

from torch.fx import GraphModule

from quire.formats import Format, parse
from quire.graph.rewrite import attribute
from quire.graph.sites import Site, sites
from quire.precision.cast import Axis
from quire.precision.container import TensorSpec, file_size
from quire.precision.entry import Entry, axis_of
from quire.precision.inputs import input_specs
from quire.precision.plan import Plan, resolve
from quire.precision.rows import Shape, flatten_shape
from quire.precision.stored import code_tensors, contents, uses

FP32 = Entry(parse("fp32"))


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


@dataclass(frozen=True)
class _Operand:
    """A tie group of operands: `row` values share a block axis, None where blocks lie in memory
    as in `shape`."""

    site: Site
    row: int | None

    def storage_bits(self, entry: Entry) -> float:
        return _storage_bits(entry.format, self.site.shape, axis_of(self.site, entry), self.row)


@lru_cache(maxsize=65536)
def _storage_bits(format: Format, shape: Shape, axis: Axis, row: int | None) -> float:
    if row is not None:
        return format.bits_per_value(row) * prod(shape)
    return format.storage_bits(*flatten_shape(shape, axis))


class CostModel:
    """The costs of plans for one graph, prepared once; a plan then takes a fraction of 1 ms."""

    def __init__(self, graph: GraphModule) -> None:
        self.sites = sites(graph)
        operands = [site for site in self.sites.values() if site.is_operand]
        calls: dict[str, list[Site]] = {}
        for site in operands:
            if site.macs:
                calls.setdefault(site.node, []).append(site)
        self._products = [(a.macs, a.tie, b.tie) for a, b in calls.values()]
        self._groups = {
            site.tie: _Operand(site, _window(site, calls.get(site.node, [])))
            for site in reversed(operands)
        }
        edges = {(s.node, s.arg): s.tie for s in self.sites.values() if s.arg is not None}
        self._uses = uses(graph, edges)
        self._values = _specs(graph, {p for use in self._uses for p in use.parameters})
        self._inputs = input_specs(graph)

    def __call__(self, plan: Plan) -> Cost:
        """The cost of a plan; raises `PlanError` where it does not fit the graph."""
        entries = resolve(plan, self.sites)
        of = {group: entries.get(group, FP32) for group in self._groups}
        return Cost(
            bits=self._average_bits(of, ("weight", "activation")),
            weight_bits=self._average_bits(of, ("weight",)),
            activation_bits=self._average_bits(of, ("activation",)),
            memory=self._memory(plan, entries),
            macs=sum(macs for macs, _, _ in self._products),
            bitops=sum(m * of[a].format.bits * of[b].format.bits for m, a, b in self._products),
        )

    def _average_bits(self, entries: Mapping[str, Entry], roles: Iterable[str]) -> float:
        chosen = {tie: o for tie, o in self._groups.items() if o.site.role in roles}
        elements = sum(operand.site.elements for operand in chosen.values())
        stored = sum(operand.storage_bits(entries[tie]) for tie, operand in chosen.items())
        return stored / elements if elements else 0.0

    def _memory(self, plan: Plan, entries: Mapping[str, Entry]) -> int:
        held = contents(self._uses, entries.keys())
        tensors = {name: self._values[name] for name in held.plain}
        for group, (use, *_) in held.coded.items():
            tensors |= code_tensors(use, entries[group], axis_of(self.sites[group], entries[group]))
        return file_size(tensors, plan.to_json(), self._inputs)


def cost(graph: GraphModule, plan: Plan) -> Cost:
    """The cost of one plan. For many plans of one graph, make a `CostModel`."""
    return CostModel(graph)(plan)


def _window(site: Site, call: list[Site]) -> int | None:
    """The length of a convolution's window, along which the blocks of its input run: they lie in
    the patches, but the input is stored once, so it has the bits a value of a window."""
    if isinstance(site.axis, int) or site.role == "weight":
        return None
    (kernel,) = (other for other in call if other is not site)
    return prod(kernel.shape[1:])


def _specs(graph: GraphModule, names: Iterable[str]) -> dict[str, TensorSpec]:
    return {name: TensorSpec.of(attribute(graph, name)) for name in names}
