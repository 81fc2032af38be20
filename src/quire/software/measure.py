"""What compiling costs and what it gives: the ways to run a model, timed and counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache
from torch.profiler import DeviceType, ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from quire.graph import capture
from quire.precision import Plan, quantize
from quire.software.compile import compile
from quire.software.generated import kernel_calls, run_and_read

Run: TypeAlias = "Callable[..., Any]"
Inputs: TypeAlias = "tuple[Tensor, ...]"

FORMAT = "mxint8"
"""The format of every operand in the ways that quantize."""


def _quantized(model: nn.Module) -> Run:
    """The model's graph with casts, run op by op; captured at the first call."""
    graphs: list[nn.Module] = []

    def run(*inputs: Tensor) -> Any:
        if not graphs:
            graph = capture(model, inputs)
            graphs.append(quantize(graph, Plan.uniform(graph, FORMAT)))
        return graphs[0](*inputs)

    return run


WAYS: dict[str, Callable[[nn.Module], Run]] = {
    "eager": lambda model: model,
    "torch.compile, default": lambda model: torch.compile(model),
    "torch.compile, reduce-overhead": lambda model: torch.compile(model, mode="reduce-overhead"),
    "quire.compile": lambda model: compile(model),
    "quire.compile, reduce-overhead": lambda model: compile(model, mode="reduce-overhead"),
    f"eager, {FORMAT}": _quantized,
    f"quire.compile, {FORMAT}": lambda model: compile(model, FORMAT),
    f"quire.compile, {FORMAT}, reduce-overhead": lambda model: compile(
        model, FORMAT, mode="reduce-overhead"
    ),
    "torch.compile, max-autotune": lambda model: torch.compile(model, mode="max-autotune"),
}
"""{how a model is run: what makes it a callable}; the one that compiles longest is the last."""


@dataclass(frozen=True)
class Figures:
    """One way to run one model on one device, without gradients.

    first_s: the first call with cold caches, compilation included. steady_s: a later call, median.
    device_s: what a GPU's kernels take of a later call; the rest is the host's. None on a CPU.
    break_even: the number of calls from which on the first call has paid off next to eager with the
        same formats; None where a later call is no faster.
    breaks: where Dynamo interrupts the graph.
    kernels: calls of generated and library kernels in one call; on a GPU the kernels that it ran.
    peak_bytes: memory that a call takes at most, besides weights and inputs.
    """

    model: str
    way: str
    device: str
    first_s: float
    steady_s: float
    device_s: float | None
    break_even: float | None
    breaks: int
    kernels: int
    peak_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    figures: in the order in which they were taken. failures: {"model: way": the error}.
    left_out: "model: way" of what there was no time for.
    """

    figures: list[Figures]
    failures: dict[str, str]
    left_out: list[str]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return asdict(self)


def compare(
    models: Mapping[str, tuple[nn.Module, Inputs]],
    device: str,
    *,
    ways: Mapping[str, Callable[[nn.Module], Run]] = WAYS,
    dtype: torch.dtype = torch.float32,
    repeats: int = 30,
    seconds: float = float("inf"),
    tell: Callable[[Figures], None] = lambda figures: None,
) -> Comparison:
    """The figures of every model run in every way, on one device.

    models: {name: the model in evaluation mode, its inputs}; both are converted to `dtype`.
    ways: those with "eager" in their names come before those that are compared with them. One that
        fails is noted.
    seconds: what would begin after so much time is left out.
    tell: called with each figure as it is there.
    """
    found = Comparison([], {}, [])
    known: dict[tuple[str, str], Figures] = {}
    start = time.perf_counter()
    ready = {name: _placed(*pair, device, dtype) for name, pair in models.items()}
    for way, make in ways.items():
        for name, (model, inputs) in ready.items():
            if time.perf_counter() - start > seconds:
                found.left_out.append(f"{name}: {way}")
                continue
            try:
                eager = known.get((name, _uncompiled(way)))
                figures = measure(name, way, make(model), inputs, device, repeats, eager)
            except Exception as error:  # whatever a compiler raises concerns this way alone
                found.failures[f"{name}: {way}"] = str(error).strip().partition("\n")[0][:300]
                continue
            known[name, way] = figures
            found.figures.append(figures)
            tell(figures)
    return found


def _uncompiled(way: str) -> str:
    """The way with the same numbers, uncompiled."""
    return f"eager, {FORMAT}" if FORMAT in way else "eager"


def _placed(
    model: nn.Module, inputs: Inputs, device: str, dtype: torch.dtype
) -> tuple[nn.Module, Inputs]:
    placed = (x.to(device, dtype if x.is_floating_point() else x.dtype) for x in inputs)
    return model.to(device, dtype).eval(), tuple(placed)


@torch.no_grad()
def measure(
    model: str,
    way: str,
    run: Run,
    inputs: Inputs,
    device: str,
    repeats: int,
    eager: Figures | None = None,
) -> Figures:
    """The figures of one callable; eager: those of the same model without compilation."""
    torch.compiler.reset()
    counters.clear()
    with fresh_cache():
        start = time.perf_counter()
        _, codes = run_and_read(run, *inputs)
        _wait(device)
        first = time.perf_counter() - start
        breaks = sum(counters["graph_break"].values())
        steady = steady_time(run, inputs, device, repeats)
        kernels, busy = (
            _kernels_on_gpu(run, inputs)
            if device == "cuda"
            else (_kernels(run, inputs, codes), None)
        )
        peak = peak_memory(run, inputs, device)
    saved = 0.0 if eager is None else eager.steady_s - steady
    spent = 0.0 if eager is None else first - eager.first_s
    break_even = spent / saved if saved > 0 else None
    return Figures(model, way, device, first, steady, busy, break_even, breaks, kernels, peak)


def steady_time(run: Run, inputs: Inputs, device: str, repeats: int) -> float:
    """The median time of a call in seconds, after five that warm up."""
    times: list[float] = []
    for _ in range(repeats + 5):
        _wait(device)
        start = time.perf_counter()
        run(*inputs)
        _wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


def peak_memory(run: Run, inputs: Inputs, device: str) -> int:
    """The bytes that a call has allocated at most."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(*inputs)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run(*inputs)
    held = peak = 0
    results: Any = found.profiler.kineto_results  # type: ignore[union-attr]
    for event in results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _kernels_on_gpu(run: Run, inputs: Inputs) -> tuple[int, float]:
    """The kernels that ran on the GPU in one call, those inside a CUDA graph included, and their
    time in seconds."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        run(*inputs)
        torch.cuda.synchronize()
    events = [e for e in found.events() or () if e.device_type == DeviceType.CUDA]
    ran = [event for event in events if not _is_other(event)]
    return len(ran), sum(event.time_range.elapsed_us() for event in ran) / 1e6


def _is_other(event: Any) -> bool:
    """Whether what a GPU did is a copy, or the profiler's name for a stretch of time."""
    is_named = getattr(event, "is_user_annotation", False)
    return is_named or event.name.startswith(("Memcpy", "Memset", "##", "Torch-Compiled"))


def _kernels(run: Run, inputs: Inputs, codes: list[str]) -> int:
    """The kernels in compiled code; where there is none the ops that compute."""
    if codes:
        return len(kernel_calls(codes))
    with _Counter() as counter:
        run(*inputs)
    return counter.count


class _Counter(TorchDispatchMode):
    """Counts the ops that are no views."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))
