"""What corrections know of the inputs of a weight: their second moment and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from quire.errors import PlanError
from quire.graph.sites import Site
from quire.precision.calibrate import Data, run_batches
from quire.precision.corrections.products import inputs_of

Uses = Sequence[tuple[Site, Node]]
"""The products that a weight takes part in: its site there, and the call."""


@dataclass
class Inputs:
    """Sums over the inputs of a weight in all of its products, float64.

    square: (groups, length, length), of x x'. sums: for each call, of x, (groups, length).
    counts: for each call, the inputs of a group.
    """

    square: Tensor | float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, call: str, x: Tensor) -> None:
        """Take note of inputs (groups, samples, length) of a call."""
        x = x.double()
        self.square = self.square + x.transpose(-1, -2) @ x
        self.sums[call] = self.sums.get(call, 0.0) + x.sum(-2)
        self.counts[call] = self.counts.get(call, 0) + x.shape[-2]

    @property
    def moment(self) -> Tensor:
        """The mean of x x' over all inputs."""
        assert isinstance(self.square, Tensor)
        return self.square / sum(self.counts.values())

    def mean(self, calls: Iterable[str]) -> Tensor:
        """The mean of x over the inputs of some of the calls, (groups, length)."""
        calls = list(calls)
        total = sum((self.sums[call] for call in calls[1:]), self.sums[calls[0]])
        return total / sum(self.counts[call] for call in calls)

    def share(self, calls: Iterable[str]) -> float:
        """The share that some of the calls have of all inputs."""
        return sum(self.counts[call] for call in calls) / sum(self.counts.values())


def observe_inputs(graph: GraphModule, data: Data, uses: Mapping[str, Uses]) -> dict[str, Inputs]:
    """The inputs of weights on calibration data, before any cast.

    uses: {tie group: its products}. Raises `PlanError` where they are not finite, and without data.
    """
    observer = _InputObserver(graph, uses)
    run_batches(observer, graph, data)
    for group, inputs in observer.found.items():
        if not isinstance(inputs.square, Tensor):
            raise PlanError("corrections need at least one batch of calibration data")
        if not inputs.square.isfinite().all():
            raise PlanError(
                f"{group}: on the calibration data its inputs hold NaN or infinity: clean them"
            )
    return observer.found


class _InputObserver(Interpreter):
    """Runs a graph and sums up what weights are multiplied by."""

    def __init__(self, graph: GraphModule, uses: Mapping[str, Uses]) -> None:
        super().__init__(graph)
        self.found = {group: Inputs() for group in uses}
        self._wanted = [(node, group, site) for group, u in uses.items() for site, node in u]

    def run_node(self, n: Node) -> Any:
        for node, group, site in self._wanted:
            if node is n:
                arguments, _ = self.fetch_args_kwargs_from_env(n)
                self.found[group].add(n.name, inputs_of(site, n, arguments).detach())
        return super().run_node(n)
