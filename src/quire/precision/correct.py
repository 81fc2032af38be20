"""`correct`: parameters and scales that make up for the casts of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from quire.errors import PlanError
from quire.graph.rewrite import attribute
from quire.graph.sites import Site, sites
from quire.precision.calibrate import Data, observe
from quire.precision.copying import copy_graph, replace_tensor
from quire.precision.corrections import CORRECTIONS, Correction
from quire.precision.corrections.layer import Layer
from quire.precision.corrections.products import Rows, is_weight, rows_of
from quire.precision.corrections.statistics import Inputs, Uses, observe_inputs
from quire.precision.entry import Entry
from quire.precision.legal import check_legal
from quire.precision.plan import Plan, resolve


def correct(graph: GraphModule, plan: Plan, calibration: Data) -> tuple[GraphModule, Plan]:
    """A graph with the corrections that a plan names, and the plan that is left to apply to it.

    graph: as `quire.capture` gives it; it is not changed. The new one has own tensors in the place
        of corrected parameters and shares the others.
    calibration: one batch (a tensor, a tuple of inputs, or a dict of them by name), or an iterable
        of batches; each parameter is corrected from what the uncorrected fp32 graph computes
        on them, so that no correction depends on another site's entry.

    The plan has no corrections any more, and a static scale where one was found; nothing else is
    different, so that `q = quire.quantize(*quire.correct(graph, plan, data))`. What each
    correction does: docs/numerics.md. Raises `PlanError` where the plan or the data does not fit
    the graph, or a correction cannot be made.
    """
    known = sites(graph)
    if graph.meta.get("quire_plan"):
        raise PlanError(
            "this graph has the casts of a plan already: give correct the graph that "
            "quire.capture made"
        )
    pending = {tie for tie, entry in resolve(plan, known).items() if entry.is_pending}
    return Corrector(graph, calibration, pending).apply(plan)


@dataclass(frozen=True)
class Corrected:
    """What the corrections of one entry come to.

    entry: what is left of it. parameters: {name: value}.
    gain: the mean squared error that is left of the products of the weight, relative to that of the
        cast alone; 1 for an activation.
    """

    entry: Entry
    parameters: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    gain: float = 1.0


class Corrector:
    """Corrections on one graph, whose parameters do not change meanwhile; each is made once.

    groups: the tie groups that will be asked for; None: all. Of each weight the second moment of
        the inputs is kept, length x length in float64, from the first correction on; and what
        every correction gave, so that a search makes it once.
    values: {site: observed values}; None: they are observed when the first scale is asked for.
    """

    def __init__(
        self,
        graph: GraphModule,
        data: Data,
        groups: Iterable[str] | None = None,
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        once = isinstance(data, Iterator)  # weights and scales take a pass each
        self._graph, self._values = graph, values
        self._data: Data = list(data) if once else data
        self._sites = sites(graph)
        self._nodes: dict[str, Node] = {node.name: node for node in graph.graph.nodes}
        self._groups: dict[str, list[Site]] = {}
        wanted = None if groups is None else set(groups)
        for site in self._sites.values():
            if wanted is None or site.tie in wanted:
                self._groups.setdefault(site.tie, []).append(site)
        self._observed: dict[str, Inputs] | None = None
        self._made: dict[tuple[str, str], Corrected] = {}

    def apply(self, plan: Plan) -> tuple[GraphModule, Plan]:
        """See `correct`."""
        left, parameters = self.resolve(plan)
        corrected = copy_graph(self._graph)
        for name, value in parameters.items():
            old = attribute(corrected, name)
            is_trained = isinstance(old, nn.Parameter)
            new = nn.Parameter(value.clone(), old.requires_grad) if is_trained else value.clone()
            replace_tensor(corrected, old, new)
        return corrected, left

    def resolve(self, plan: Plan) -> tuple[Plan, dict[str, Tensor]]:
        """The plan that is left after its corrections, and {parameter: value}."""
        entries = resolve(plan, self._sites)
        pending = {tie: entry for tie, entry in entries.items() if entry.is_pending}
        made = {tie: self.of(tie, entry) for tie, entry in pending.items()}
        left = Plan(plan)
        for name in plan:
            tie = self._sites[name].tie
            if tie in made:
                left[name] = made[tie].entry
        parameters = (c.parameters for c in made.values())
        return left, {name: value for found in parameters for name, value in found.items()}

    def of(self, tie: str, entry: Entry) -> Corrected:
        """What the corrections of an entry of a tie group come to."""
        key = tie, str(entry)
        if key not in self._made:
            group = self._groups[tie]
            for site in group:
                check_legal(site, entry)
            by_weight = any(is_weight(site, entry) for site in group)
            with torch.no_grad():
                make = self._weight if by_weight else self._scale
                self._made[key] = make(group, entry)
        return self._made[key]

    def _scale(self, group: list[Site], entry: Entry) -> Corrected:
        """An activation with the static scale that its correction finds."""
        if self._values is None:
            self._values = observe(self._graph, self._data, list(self._groups))
        values, left = self._values[group[0].tie], entry.settled
        for correction in _named(entry):
            assert correction.scale is not None
            options = correction.filled(entry.corrections[correction.name])
            left = replace(left, scale=correction.scale(entry.format, values, options))
        return Corrected(left)

    def _weight(self, group: list[Site], entry: Entry) -> Corrected:
        """A weight, and the biases beside it, after the corrections of its entry."""
        site, uses, rows = group[0], self._uses(group), self._rows(group)
        if rows is None:
            names = ", ".join(site.name for site in group)
            raise PlanError(
                f"{names} are one tensor that is multiplied along several axes, which no "
                "correction takes: clone the parameter"
            )
        inputs, name = self._inputs[site.tie], str(site.parameter)
        weight: Tensor = attribute(self._graph, name).detach()
        if not weight.isfinite().all():
            raise PlanError(f"{site.name}: the weight holds NaN or infinity: clean it")
        layer = Layer(entry.format, entry.scale, rows.of(weight), inputs.moment)
        value = layer.weight
        for correction in _named(entry):
            if correction.weight is not None:
                options = correction.filled(entry.corrections[correction.name])
                value = correction.weight(layer, value, options)
        parameters = {} if value is layer.weight else {name: rows.back(value, weight)}
        others = self._other_readers(name, (node.name for _, node in uses))
        if parameters and others:
            raise PlanError(
                f"{site.name}: the weight is read by {', '.join(others)} too, which would see it "
                "corrected: clone the parameter for it"
            )
        error = layer.weight.double() - layer.cast(value).double()
        biases, removed = self._biases(uses, entry, inputs, error)
        before = float(layer.errors(layer.weight).sum())
        after = max(float(layer.errors(value).sum()) - removed, 0.0)
        return Corrected(entry.settled, parameters | biases, after / before if before else 1.0)

    def _biases(
        self, uses: Uses, entry: Entry, inputs: Inputs, error: Tensor
    ) -> tuple[dict[str, Tensor], float]:
        """{parameter: value} of biases, and the mean squared error of which they rid products."""
        changed: dict[str, Tensor] = {}
        removed = 0.0
        for correction in _named(entry):
            if correction.bias is None:
                continue
            for name, calls in self._calls_by_bias(uses).items():
                options = correction.filled(entry.corrections[correction.name])
                added = correction.bias(error, inputs.mean(calls), options)
                removed += float(added.square().sum()) * inputs.share(calls)
                bias: Tensor = attribute(self._graph, name).detach()
                if bias.numel() != added.numel():
                    raise PlanError(
                        f"{uses[0][0].name}: its bias {name} has {bias.numel()} values for "
                        f"{added.numel()} sums, so that it cannot be corrected: leave out 'bias'"
                    )
                value = changed.get(name, bias).double() + added.reshape(bias.shape)
                changed[name] = value.to(bias.dtype)
        return changed, removed

    def _calls_by_bias(self, uses: Uses) -> dict[str, list[str]]:
        """{bias: the calls that add it}, of parameters that nothing else reads."""
        found: dict[str, list[str]] = {}
        for site, node in uses:
            found.setdefault(str(site.bias), []).append(node.name)
            if node.kwargs:
                raise PlanError(
                    f"{site.name}: {node.name} scales its product or its bias, so that the bias "
                    "cannot be corrected: leave out 'bias'"
                )
        for name, calls in found.items():
            if others := self._other_readers(name, calls):
                raise PlanError(
                    f"{uses[0][0].name}: its bias {name} is read by {', '.join(others)} too, so "
                    "that it cannot be corrected for one product: leave out 'bias', or clone it"
                )
        return found

    def _other_readers(self, name: str, calls: Iterable[str]) -> list[str]:
        """What reads a parameter beside some calls, under any of its names."""
        tensor = attribute(self._graph, name)
        held = self._graph.graph.find_nodes(op="get_attr")
        reads = [node for node in held if attribute(self._graph, str(node.target)) is tensor]
        return sorted({user.name for node in reads for user in node.users} - set(calls))

    @property
    def _inputs(self) -> dict[str, Inputs]:
        if self._observed is None:
            weights = {
                tie: self._uses(group)
                for tie, group in self._groups.items()
                if all(is_weight(site, _PLAIN) for site in group) and self._rows(group) is not None
            }
            self._observed = observe_inputs(self._graph, self._data, weights)
        return self._observed

    def _uses(self, group: list[Site]) -> Uses:
        return [(site, self._nodes[site.node]) for site in group]

    def _rows(self, group: list[Site]) -> Rows | None:
        """How a weight is seen as rows in all of its products, or None where they differ."""
        seen = {rows_of(site, node) for site, node in self._uses(group)}
        return seen.pop() if len(seen) == 1 else None


_PLAIN = Entry.of("fp32")


def _named(entry: Entry) -> list[Correction]:
    return [correction for name, correction in CORRECTIONS.items() if name in entry.corrections]
