"""The Dynamo backend "quire": the passes and casts of `quire.compile` on each of Dynamo's graphs.

It serves models that cannot be captured as one graph: between graph breaks each graph gets what
the plan says of the sites in it. PyTorch finds it by name through the entry points of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from quire.errors import CaptureError, CompileError
from quire.graph.capture import capture
from quire.precision.quantize import quantize
from quire.software.dynamo_graph import DynamoGraph, Given, root_module
from quire.software.passes import PASSES
from quire.software.plans import PlanLike, plan_for
from quire.software.program import Options, Program
from quire.software.report import Report

OPTIONS = ("plan", "passes", "compiler", "report")


def quire_backend(
    graph: GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """`torch.compile(model, backend="quire", mode=..., options={...})`.

    mode: of `torch.compile`, for the code of each graph.
    options: any of "plan" (as `quire.compile` takes it; sites of other graphs are passed over),
        "passes", "compiler" (as there), and "report", a `Report` to fill.

    Sites have the names that they have in a captured model, but what a module does several times is
    numbered within each graph. Code that Dynamo leaves to Python has no sites. Raises
    `CompileError` for another option.
    """
    given = dict(options or {})
    unknown = given.keys() - {*OPTIONS}
    if unknown:
        raise CompileError(
            f"backend 'quire' has no option {sorted(unknown)[0]!r}: it takes {', '.join(OPTIONS)}"
        )
    passes, compiler = given.get("passes", PASSES), given.get("compiler", "inductor")
    found = DynamoGraph.of(graph, example_inputs)
    return _Dispatch(
        found, given.get("plan"), Options(mode, passes, compiler), given.get("report") or Report()
    )


class _Dispatch:
    """One graph of Dynamo, which may serve several modules: a program for each."""

    def __init__(
        self, graph: DynamoGraph, plan: PlanLike | None, options: Options, report: Report
    ) -> None:
        self._graph, self._plan, self._options, self._report = graph, plan, options, report
        self._runs: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        held, given = self._graph.split(args)
        key = (tuple(map(id, held)), self._sizes(given), torch.is_grad_enabled())
        run = self._runs.get(key)
        if run is None or (isinstance(run, Program) and run.is_stale):
            run = self._runs[key] = self._made(args, held, given)
        return run(tuple(given))

    def _sizes(self, given: Sequence[Any]) -> Hashable:
        """The sizes and constants that a program is made for: all but a batch that is free."""
        is_free = self._batch_is_free(given)
        return tuple(
            tuple(x.shape[1:] if is_free and 0 in slot.free else x.shape)
            if isinstance(x, Tensor)
            else (type(x), x)
            for slot, x in zip(self._slots(), given, strict=True)
        )

    def _slots(self) -> list[Given]:
        return [slot for slot in self._graph.slots if isinstance(slot, Given)]

    def _batch_is_free(self, given: Sequence[Any]) -> bool:
        """Whether what Dynamo leaves free is the batch of `capture`, and nothing else."""
        tensors = [(s, x) for s, x in zip(self._slots(), given, strict=True) if _has_axes(x)]
        if not tensors:
            return False
        batch = tensors[0][1].shape[0]
        return all((slot.free == (0,)) == (x.shape[0] == batch) for slot, x in tensors) and all(
            slot.free in ((), (0,)) for slot, _ in tensors
        )

    def _made(
        self, args: Sequence[Any], held: Sequence[Tensor], given: Sequence[Any]
    ) -> Callable[..., Any]:
        gradients = torch.is_grad_enabled() and any(
            isinstance(x, Tensor) and x.requires_grad for x in args
        )
        module = self._graph.bound(held, root_module())
        module.train(self._graph.is_training)
        try:
            graph = capture(module, (tuple(given),), dynamic_batch=self._batch_is_free(given))
        except CaptureError as error:
            self._report.note(f"a graph of Dynamo runs without passes and casts: {error}")
            return torch.compile(module, mode=self._options.mode, backend=self._options.compiler)
        if self._plan is not None:
            plan = plan_for(graph, self._plan, partial=True)
            self._report.place(plan)
            graph = quantize(graph, plan)
        return Program(graph, given, self._options, self._report, gradients=gradients)


def _has_axes(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0
