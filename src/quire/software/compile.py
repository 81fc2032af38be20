"""`compile`: a model and a plan as fast code, in one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import list_mode_options
from torch.fx import GraphModule
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.utils import _pytree as pytree

from quire.errors import CaptureError, CompileError, FixedBatchError
from quire.graph.capture import Examples, as_call, capture
from quire.precision.inputs import flat_inputs, leaves
from quire.precision.quantize import quantize
from quire.software.backend import quire_backend
from quire.software.dynamo_graph import DROPOUTS_DIFFER
from quire.software.passes import PASSES, Pass
from quire.software.plans import PlanLike, check_plan, plan_for
from quire.software.program import COMPILING, Options, Program
from quire.software.report import Report


def compile(
    model: nn.Module,
    plan: PlanLike | None = None,
    mode: str | None = None,
    *,
    example_inputs: Examples | None = None,
    passes: tuple[Pass, ...] = PASSES,
    compiler: str = "inductor",
) -> Compiled:
    """A callable that computes what `model` does under `plan`, compiled.

    model: any `nn.Module`, or a graph of `quire.capture` or `quire.quantize`. Its parameters stay
        its own: training either trains both.
    plan: a `Plan`, {site or pattern: format}, the path of a plan's file, or one format for every
        operand of a product. None rounds nothing.
    mode: of `torch.compile`: "default", "reduce-overhead", "max-autotune", ...
    example_inputs: a tuple or a dict, as for `quire.capture`: the graph is captured now, and bad
        plans are found now. Without them that happens at the first call, with its arguments.
    passes: rows of `quire.software.passes.PASSES`, or others, in the order in which they run.
    compiler: the Dynamo backend that makes code of the graph in the end.

    One compilation serves every batch size; other sizes and dtypes get one each, and so do
    training and calls without gradients. Without gradients cast weights are computed once, and
    again when a parameter was written. A model that cannot be captured as one graph goes through
    Dynamo, graph by graph, with the same passes (`torch.compile(model, backend="quire")`).

    A parameter that is replaced, not written, is not seen: compile the model again. In training,
    as in `quire.capture`, batch norm keeps its statistics, and uses them.

    Raises `CompileError` for a model that is no module and for an unknown mode, `PlanError` for a
    plan that does not fit.
    """
    if not isinstance(model, nn.Module):
        raise CompileError(f"compile takes an nn.Module, not a {type(model).__name__}")
    _check(plan, mode, example_inputs, compiler)
    if plan is not None and "quire_plan" in getattr(model, "meta", {}):
        raise CompileError("the graph is quantized already: compile it without a plan")
    compiled = Compiled(model, plan, Options(mode, passes, compiler))
    if example_inputs is not None:
        compiled.capture(example_inputs)
    return compiled


def _check(plan: Any, mode: str | None, example_inputs: Any, compiler: str) -> None:
    """Raise where an argument is of no legal kind, before anything is captured."""
    if plan is not None:
        check_plan(plan)
    if mode is not None and compiler == "inductor" and mode not in list_mode_options():
        legal = ", ".join(map(repr, list_mode_options()))
        raise CompileError(f"mode={mode!r} is none of torch.compile's: give {legal}, or None")
    if example_inputs is not None and not isinstance(example_inputs, tuple | Mapping):
        given = type(example_inputs).__name__
        raise CompileError(f"example_inputs is a {given}: give a tuple, such as (x,), or a dict")


@dataclass
class _Captured:
    """A graph with its casts, and its programs by training and gradients."""

    graph: GraphModule
    programs: dict[tuple[bool, bool], Program]


class Compiled(nn.Module):
    """What `quire.compile` returns.

    model: what it was given, with the parameters of both.
    report: what happened to it, filled as code is made; print it.
    """

    def __init__(self, model: nn.Module, plan: PlanLike | None, options: Options) -> None:
        super().__init__()
        self.model = model
        self.report = Report()
        self._plan, self._options = plan, options
        self._graphs: dict[Hashable, _Captured | Callable[..., Any]] = {}
        self.training = model.training
        # Not looked for in every call: attributes of modules are slow, and there may be thousands.
        self._is_graph = _is_graph(model)
        self._dropouts = [m for m in model.modules() if isinstance(m, _DropoutNd)]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns for the same arguments."""
        found = self._found(args, kwargs)
        if not isinstance(found, _Captured):
            return found(*args, **kwargs)
        return self._program(found, args, kwargs)(*args, **kwargs)

    @property
    def _orig_mod(self) -> nn.Module:
        """The model, by the name that wrappers of `torch.compile` have for it."""
        return self.model

    def capture(self, example_inputs: Examples) -> None:
        """Capture the graph that calls with inputs like these use."""
        self._found(*as_call(example_inputs))

    def refresh(self) -> None:
        """Cast the weights again: after writes that none can see, through `parameter.data` or to
        parameters that were made in inference mode."""
        for program in self.programs():
            if program.static is not None:
                program.static.refresh(force=True)

    def programs(self) -> list[Program]:
        """The compiled graphs so far; none where Dynamo has taken the model."""
        found = [g for g in self._graphs.values() if isinstance(g, _Captured)]
        return [program for captured in found for program in captured.programs.values()]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            found = getattr(super().__getattr__("model"), name)
        if self.__dict__.get("_plan") and getattr(found, "__self__", None) is self.model:
            raise AttributeError(
                f"{name}() is a method of the model, which would run without the plan, in its own"
                " formats: call the compiled model itself; for methods such as generate() put the"
                " layers in codes with quire.apply(model, plan), or call `.model` as it was"
            )
        return found

    def _found(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The graph for such arguments, captured at their first call."""
        key = None if self._is_graph else _signature(args, kwargs)
        if key not in self._graphs:
            with COMPILING:
                if key not in self._graphs:  # another thread may have made it
                    self._graphs[key] = self._made(args, kwargs)
        return self._graphs[key]

    def _made(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Captured | Callable[..., Any]:
        try:
            graph = self._captured(args, kwargs)
        except CaptureError as error:
            self.report.note(f"no single graph, so Dynamo's are compiled one by one: {error}")
            return self._by_dynamo()
        if self._plan is not None:
            plan = plan_for(graph, self._plan)
            self.report.place(plan)
            graph = quantize(graph, plan)
        return _Captured(graph, {})

    def _captured(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GraphModule:
        if self._is_graph:
            assert isinstance(self.model, GraphModule)
            return self.model
        if args and kwargs:
            raise CaptureError("positional and named arguments in one call")
        examples: Examples = kwargs or args
        try:
            return capture(self.model, examples)
        except FixedBatchError as error:
            self.report.note(f"one compilation for each batch size: {error}")
            return capture(self.model, examples, dynamic_batch=False)

    def _by_dynamo(self) -> Callable[..., Any]:
        options = self._options

        def backend(graph: GraphModule, inputs: list[Any]) -> Callable[..., Any]:
            said = {"plan": self._plan, "passes": options.passes, "report": self.report}
            return quire_backend(
                graph, inputs, mode=options.mode, options={**said, "compiler": options.compiler}
            )

        return torch.compile(self.model, backend=backend)

    def _program(
        self, captured: _Captured, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Program:
        training, gradients = self._mode(), self._wants_gradients(args, kwargs)
        key = (training, gradients)
        program = captured.programs.get(key)
        if program is not None and not program.is_stale:
            return program
        with COMPILING:
            program = captured.programs.get(key)
            if program is None or program.is_stale:  # another thread may have made it
                captured.graph.train(training)
                flat = flat_inputs(captured.graph, args, kwargs)
                program = captured.programs[key] = Program(
                    captured.graph, flat, self._options, self.report, gradients=gradients
                )
        return program

    def _mode(self) -> bool:
        """Whether the model trains, and its dropouts with it; raises `CompileError`."""
        if any(dropout.training != self.model.training for dropout in self._dropouts):
            raise CompileError(DROPOUTS_DIFFER)
        return self.model.training

    def _wants_gradients(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if not torch.is_grad_enabled():
            return False
        tensors = (x for x in leaves(args, kwargs) if isinstance(x, Tensor))
        return any(p.requires_grad for p in self.model.parameters()) or any(
            x.requires_grad for x in tensors
        )


def _is_graph(model: nn.Module) -> bool:
    return "quire" in getattr(model, "meta", {})


def _signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Equal for calls that one graph serves: structure, dtypes, constants, sizes but of batches;
    and what autocast does to the dtypes inside."""
    found = leaves(args, kwargs)
    # Flattening costs as much as a small model, and says nothing of tensors by position.
    structure = None if found is args else pytree.tree_structure((args, kwargs))
    batch = next((x.shape[0] for x in found if isinstance(x, Tensor) and x.ndim), None)
    autocast = [
        torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        for kind in ("cpu", "cuda")
    ]
    return structure, *autocast, tuple(_leaf(x, batch) for x in found)


_CONSTANTS = (int, float, str, type(None))


def _leaf(x: Any, batch: int | None) -> Hashable:
    if not isinstance(x, Tensor):
        # With its type, since 1 == 1.0 == True.
        return (type(x), x) if isinstance(x, _CONSTANTS) else type(x)
    sizes: tuple[Any, ...] = x.shape
    if sizes and sizes[0] == batch:
        sizes = ("batch", *sizes[1:])
    return x.dtype, x.device, sizes
