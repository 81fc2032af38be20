"""`DesignCosts`: what a search is told of circuits, each plan at its best lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, partial
from typing import Literal

from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.arguments import check
from quire.hardware.cost import HardwareCost, cost
from quire.hardware.design import Design
from quire.hardware.lanes import lanes_for
from quire.hardware.linear import MAX_ACCUMULATOR
from quire.hardware.lower import lower
from quire.hardware.schedule import Lanes
from quire.precision import Maximum, Plan, quantize
from quire.precision.calibrate import Data

KEPT = 20_000
"""Plans whose costs are kept; a search asks for many of them again."""

LUT_OF_DSP = 55
"""LUTs that a DSP block counts as in `area`, as Sun et al. 2024 add them up ("Gradient-based
automatic mixed precision quantization for neural networks on-chip")."""


@dataclass(frozen=True)
class DesignCosts:
    """What `quire.search` takes as `costs`: the resources and the cycles of each plan's circuit.

    A plan becomes the one of `Plan.for_hardware` on the calibration data, and gets its lanes as
    `emit` chooses them: the cheapest with which it takes `rate` samples a second at `clock` Hz,
    or, with a budget and no rate, the fastest within it. So each plan is costed at its best legal
    parallelism, and `emit` with the same arguments makes the circuit that was costed.

    calibration: as `Plan.for_hardware` takes it. lanes, rate, clock, dsp, lut, bram,
    max_accumulator: as `emit` takes them.

    The costs: LUT, FF, DSP, BRAM as `Design.cost` gives them; area = LUT + 55 DSP; interval and
    latency in cycles, the interval a `Maximum` over stages and streams; rate = clock / interval, in
    samples a second. Weights are taken as they are, whatever corrections a plan has. A plan that
    has no hardware, cannot reach the rate or does not fit into the budget raises HardwareError,
    and a search does not run it; the refusal is kept as costs are. Arguments that are not legal
    raise HardwareError at once; only a graph can tell whether the layers in a mapping of lanes and
    the batches of the calibration data fit, so these raise with the first plan.
    """

    calibration: Data
    _: KW_ONLY
    lanes: Literal["auto", "unroll"] | Lanes = "auto"
    rate: float | None = None
    clock: float = 200e6
    dsp: int | None = None
    lut: int | None = None
    bram: int | None = None
    max_accumulator: int = MAX_ACCUMULATOR

    def __post_init__(self) -> None:
        check(rate=self.rate, clock=self.clock, dsp=self.dsp, lut=self.lut, bram=self.bram)
        check(max_accumulator=self.max_accumulator, lanes=self.lanes, calibration=self.calibration)
        if isinstance(self.calibration, Iterator):  # which would run dry after the first plan
            object.__setattr__(self, "calibration", list(self.calibration))

    def __call__(self, graph: GraphModule) -> Callable[[Plan], dict[str, float]]:
        """For a graph from `quire.capture`, the function from a plan to its costs by name."""
        known = lru_cache(KEPT)(lambda entries: self._tried(graph, Plan(dict(entries))))

        def costs(plan: Plan) -> dict[str, float]:
            found = known(tuple((name, entry.settled) for name, entry in plan.items()))
            if isinstance(found, str):
                raise HardwareError(found)
            return dict(found)

        return costs

    def cost(self, graph: GraphModule, plan: Plan) -> HardwareCost:
        """The cost of one plan's circuit, by layer too."""
        return cost(self._design(graph, plan))

    def _tried(self, graph: GraphModule, plan: Plan) -> dict[str, float] | str:
        """The costs of a plan, or why it has none, since a cache keeps no exceptions.

        The message alone, because the traceback would hold the plan's graph and design.
        """
        try:
            return self._metrics(graph, plan)
        except HardwareError as error:
            return str(error)

    def _metrics(self, graph: GraphModule, plan: Plan) -> dict[str, float]:
        design = self._design(graph, plan)
        found = cost(design)
        resources = {name: float(getattr(found, name)) for name in ("LUT", "FF", "DSP", "BRAM")}
        return {
            **resources,
            "area": resources["LUT"] + LUT_OF_DSP * resources["DSP"],
            "interval": Maximum(design.intervals),
            "latency": float(found.latency),
            "rate": self.clock / design.interval,
        }

    def _design(self, graph: GraphModule, plan: Plan) -> Design:
        q = quantize(graph, plan.for_hardware(graph, self.calibration, quiet=True))
        build = partial(lower, q, max_accumulator=self.max_accumulator)
        limits = {"DSP": self.dsp, "LUT": self.lut, "BRAM": self.bram}
        budget = {kind: most for kind, most in limits.items() if most is not None}
        _, design = lanes_for(q, self.lanes, self.rate, self.clock, budget, build)
        return design
