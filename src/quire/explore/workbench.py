"""What a search does with one plan: count its cost, quantize the model, train and evaluate it."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from numbers import Real
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from quire.errors import HardwareError, KernelError, TaskError
from quire.explore.clock import Clock
from quire.explore.divergence import tensors_of
from quire.explore.picture import draw
from quire.explore.space import Space
from quire.explore.task import Task
from quire.explore.threads import one_thread
from quire.explore.trial import Trial
from quire.graph import Site, capture
from quire.precision import CostModel, Entry, Plan, quantize
from quire.precision.calibrate import fit_integer, observe
from quire.precision.copying import copy_graph
from quire.precision.correct import Corrected, Corrector
from quire.precision.switchable import Switchable

NOISE_SAMPLE = 8192  # values a site from which the error of a format is known to about 1%

PlanCosts: TypeAlias = Callable[[Plan], Mapping[str, float]]
Costs: TypeAlias = Callable[[GraphModule], PlanCosts]


@dataclass(frozen=True)
class Measured:
    """What a plan gave: the metrics of `evaluate`, the seconds that it took, or why it failed."""

    metrics: Mapping[str, float]
    seconds: float
    error: str = ""


class Workbench:
    """A task whose model has been captured once.

    qat_epochs: of training that every plan gets.
    clock: gets the seconds of "quire" (plan, cost, quantized weights) and of "evaluate".
    costs: gives, for the captured graph, a function from a plan to more of its costs by name.
    """

    def __init__(
        self, task: Task, qat_epochs: int, clock: Clock, costs: Costs | None = None
    ) -> None:
        self._task, self._clock = task, clock
        self.qat_epochs = qat_epochs
        self.last_exception: Exception | None = None
        self._graph = capture(task.model, task.example_inputs)
        self._cost = CostModel(self._graph)
        self._more_costs = costs(self._graph) if costs else _no_costs
        self._cost_names: set[str] = set()  # of those handed in, from the first plan on
        self._switchable = Switchable(self._graph)
        self.sites = self._cost.sites

    def costs(self, formats: Mapping[str, str]) -> dict[str, float]:
        """The metrics of {site: format string} that need no run: bits, memory, ..."""
        with self._clock("quire"):
            plan = _plan(formats)
            plan = plan.without_corrections() if plan.has_corrections else plan  # they are free
            own, more = self._cost(plan).metrics(), self._more_costs_of(plan)
        if shared := sorted(own.keys() & more.keys()):
            names = ", ".join(shared)
            raise TaskError(f"costs returned {names}, which Quire computes: rename it")
        return {**own, **more}

    def measure(self, formats: Mapping[str, str], epochs: int) -> Measured:
        """What `evaluate` gives under {site: format string} after epochs of training; an exception
        becomes words."""
        started = time.perf_counter()
        metrics, error = dict[str, float](), ""
        try:
            metrics = self._evaluate(self._prepare(formats, epochs), epochs)
        except Exception as problem:  # whatever the user's code raises belongs to this plan
            error, self.last_exception = f"{type(problem).__name__}: {problem}", problem
        return Measured(metrics, round(time.perf_counter() - started, 6), error)

    def trial(
        self,
        number: int,
        formats: Mapping[str, str],
        label: str,
        measured: Measured,
        wanted: Iterable[str] = (),
    ) -> Trial:
        """The trial of a plan that was measured, with its costs.

        wanted: metrics without which it fails.
        """
        costs, metrics, error = self.costs(formats), dict(measured.metrics), measured.error
        if not error and (shared := metrics.keys() & costs.keys()):
            names = ", ".join(sorted(shared))
            error = f"TaskError: evaluate returned {names}, which Quire computes: rename it"
        if not error and (missing := set(wanted) - metrics.keys() - costs.keys()):
            absent = ", ".join(sorted(missing))
            error = f"TaskError: evaluate returned {', '.join(metrics)}, but not {absent}"
        return Trial(
            number=number,
            formats=formats,
            metrics=metrics | costs,
            state="failed" if error else "complete",
            label=label,
            seconds=measured.seconds,
            error=error,
        )

    def _more_costs_of(self, plan: Plan) -> Mapping[str, float]:
        """The costs handed in; none of the fp32 model where it has no hardware or kernel."""
        try:
            found: object = self._more_costs(plan)
        except (HardwareError, KernelError):
            if plan:
                raise
            return {}
        if not isinstance(found, Mapping):
            raise TaskError(f"costs returned {found!r} of a plan: return {{cost name: number}}")
        named = cast("Mapping[str, object]", found)
        for name, value in named.items():
            if not isinstance(value, Real) or not math.isfinite(value):
                raise TaskError(f"costs gave {name!r} = {value!r}: a cost is a finite number")
        self._cost_names = self._cost_names or set(named if plan else ())
        if plan and set(named) != self._cost_names:
            raise TaskError(
                f"costs returned {', '.join(named)} of one plan and "
                f"{', '.join(sorted(self._cost_names))} of another: return the same names"
            )
        return cast("Mapping[str, float]", named)

    def fit(self, group: Sequence[Site], template: str) -> int | None:
        """The integer that suits the tensors of a group of sites best (`fit_integer`)."""
        return fit_integer(template, [self._tensors[site.name] for site in group])

    def noise(self, space: Space) -> list[list[float]]:
        """For each group, the error energy of each candidate relative to that of the data.

        Blocks run through the observed values in memory order, whatever the site's axis is.
        """
        return [
            [self.relative_error(group.name, candidate.format) for candidate in group.candidates]
            for group in space.groups
        ]

    def relative_error(self, site: str, format: str) -> float:
        """The error energy of a format on the observed values of a site, relative to theirs; with
        corrections of a weight, that energy less the share of which they rid its products."""
        found = self.corrected(site, format)
        return found.gain * _relative_error(found.entry, self._tensors[site])

    def corrected(self, site: str, format: str) -> Corrected:
        """A format at a site with its corrections made, each once."""
        entry = _entry(format)
        if not entry.is_pending:
            return Corrected(entry)
        with one_thread():
            return self._corrector.of(self.sites[site].tie, entry)

    def use(self, formats: Mapping[str, str]) -> GraphModule:
        """The model under {site: format string}, until the next call; untrained."""
        with self._clock("quire"):
            plan = _plan(formats)
            if not plan.has_corrections:
                return self._switchable.use(plan)
            with one_thread():
                return self._switchable.use(*self._corrector.resolve(plan))

    @property
    def task(self) -> Task:
        """The task as workers get it: its calibration data is a list, which runs more than once."""
        return replace(self._task, calibration=self._data)

    @cached_property
    def batches(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The calibration data as arguments and keyword arguments of calls.

        Raises TaskError where it does not run through the model.
        """
        _ = self._tensors
        data: Any = self._data
        return [_arguments(x) for x in ([data] if isinstance(data, tuple | Mapping) else data)]

    def outputs(self, formats: Mapping[str, str]) -> list[list[Tensor]]:
        """The floating-point outputs of each batch under {site: format string}, on one thread.

        Raises TaskError where there are none.
        """
        graph = self.use(formats)
        with torch.no_grad(), one_thread():
            found = [tensors_of(graph(*args, **kwargs)) for args, kwargs in self.batches]
        if not all(found):
            raise TaskError(
                "the model gives no floating-point output on the calibration data: let its forward "
                "return what a change of formats should leave as it is"
            )
        return found

    @cached_property
    def reference(self) -> list[list[Tensor]]:
        """The outputs of the fp32 model; TaskError where they are not finite."""
        found = self.outputs({})
        if not all(bool(x.isfinite().all()) for batch in found for x in batch):
            raise TaskError(
                "the fp32 model gives NaN or infinity on the calibration data, from which no "
                "divergence can be measured: look at the data and the weights"
            )
        return found

    def digest(self) -> str:
        """A hash of what isolated changes depend on: weights, graph, and calibration data."""
        digest = hashlib.sha256(f"{_digest(self._task.model)} {self._graph.code}".encode())
        for leaf in pytree.tree_leaves(self.batches):
            digest.update(_bytes(leaf) if isinstance(leaf, Tensor) else repr(leaf).encode())
        return digest.hexdigest()

    def picture(self, space: Space) -> dict[str, Any]:
        """The drawing of the model, and {group: stored bits a value of each of its formats}."""
        drawing = draw(self._graph, [site.name for group in space.groups for site in group.sites])
        bits = {group.name: [c.bits for c in group.candidates] for group in space.groups}
        return {**drawing, "bits": bits}

    def describe(self) -> dict[str, Any]:
        """What a study must have in common with this task to go on."""
        return {"model": _digest(self._task.model), "qat_epochs": self.qat_epochs}

    def _prepare(self, formats: Mapping[str, str], epochs: int) -> nn.Module:
        """The model under a plan: the shared one, or, to be trained, one with its own weights."""
        if not epochs:
            return self.use(formats)
        with self._clock("quire"):
            graph, plan = self._graph, _plan(formats)
            if plan.has_corrections:
                with one_thread():
                    graph, plan = self._corrector.apply(plan)
            return quantize(copy_graph(graph, share=False), plan)

    def _evaluate(self, module: nn.Module, epochs: int) -> dict[str, float]:
        with self._clock("evaluate"):
            if epochs and self._task.train is not None:
                self._task.train(module.train(), epochs)
            with torch.no_grad():
                return self._task.score(module.eval())

    @cached_property
    def _corrector(self) -> Corrector:
        return Corrector(self._graph, self._data, values=self._tensors)

    @cached_property
    def _data(self) -> Any:
        """The calibration data: one batch or a list of them, since an iterator runs once."""
        task = self._task
        data: Any = task.example_inputs if task.calibration is None else task.calibration
        one = isinstance(data, tuple | Mapping | str) or not isinstance(data, Iterable)
        return data if one else (data,) if isinstance(data, Tensor) else list(data)

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        try:
            observed = observe(self._graph, self._data)
        except Exception as error:  # whatever a graph raises on inputs that do not fit it
            problem, *_ = f"{type(error).__name__}: {error}".split("\n")  # no listing of the graph
            raise TaskError(
                f"calibration does not run through the model: {problem}; give inputs like "
                "example_inputs"
            ) from error
        rest = {name: _constant(self._graph, site) for name, site in self.sites.items()
                if name not in observed}  # fmt: skip
        return rest | observed


def _no_costs(plan: Plan) -> dict[str, float]:
    return {}


@cache
def _entry(format: str) -> Entry:
    return Entry.of(format)


def _plan(formats: Mapping[str, str]) -> Plan:
    return Plan({site: _entry(format) for site, format in formats.items()})


def _constant(graph: GraphModule, site: Site) -> Tensor:
    """What no run of the graph shows: a number that its code holds, or the values of a table."""
    node = next(node for node in graph.graph.nodes if node.name == site.node)
    value = node.args[site.arg] if site.arg is not None else None
    if isinstance(value, int | float):
        return torch.tensor([float(value)])
    return torch.linspace(0, 1, 257)  # exponentials of what is at most zero


def _relative_error(entry: Entry, values: Tensor) -> float:
    x = values[:NOISE_SAMPLE]
    x = (x if x.dtype == torch.float64 else x.float())[x.isfinite()]
    energy = float(x.double().square().sum())
    error = (entry.format.quantize(x, scale=entry.scale) - x).double().square().sum()
    return float(error) / energy if energy else 0.0


def _digest(model: nn.Module) -> str:
    """A hash of the model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + b" " + _bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    """The dtype, shape and values of a tensor."""
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return f"{tensor.dtype} {tuple(tensor.shape)}".encode() + data.numpy().tobytes()


def _arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return (), dict(cast("Mapping[str, Any]", batch))
    return ((batch,) if isinstance(batch, Tensor) else tuple(batch)), {}
