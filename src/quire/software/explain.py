"""`explain`: what happens to a model at each stage from Python to kernels."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from quire.graph.capture import Examples, as_call, check_examples
from quire.software.compile import Compiled, compile
from quire.software.generated import kernel_calls, run_and_read
from quire.software.plans import PlanLike, entries_of, one_format
from quire.software.report import Report


@dataclass(frozen=True)
class Explanation:
    """What each stage did; it prints as text.

    graphs: how many graphs Dynamo makes of the model.
    breaks: why it ends one and begins another, and in which line.
    report: of the passes.
    missing: the sites and patterns of the plan that say nothing of any graph.
    kernels: that one call runs, in order.
    """

    graphs: int
    breaks: tuple[str, ...]
    report: Report
    missing: tuple[str, ...]
    kernels: tuple[str, ...]

    def __str__(self) -> str:
        found = "\n".join(f"  {line}" for line in str(self.report).splitlines())
        return "\n".join(
            [
                f"Dynamo: {_count(self.graphs, 'graph')}, {_count(len(self.breaks), 'break')}",
                *(f"  {text}" for text in self.breaks),
                "Passes and casts:",
                found,
                *([f"  no graph has {', '.join(self.missing)}"] if self.missing else []),
                f"Inductor: {_count(len(self.kernels), 'kernel')} a call",
                *(f"  {name}" for name in self.kernels),
            ]
        )


def explain(
    model: nn.Module,
    example_inputs: Examples,
    plan: PlanLike | None = None,
    mode: str | None = None,
) -> Explanation:
    """Compile a model as `quire.compile` does, call it once without gradients, and say what came
    of it.

    example_inputs: a tuple or a dict, as for `quire.capture`, whose errors it raises for others.
    """
    check_examples(model, example_inputs)
    args, kwargs = as_call(example_inputs)
    with torch.no_grad():
        torch.compiler.reset()
        found: Any = torch._dynamo.explain(model)(*args, **kwargs)  # pyright: ignore
        breaks = tuple(_said(reason) for reason in found.break_reasons)
        torch.compiler.reset()
        compiled = compile(model, plan, mode)
        _, codes = run_and_read(compiled, *args, **kwargs)
    missing = _missing(compiled, plan)
    return Explanation(
        found.graph_count, breaks, compiled.report, missing, tuple(kernel_calls(codes))
    )


def _said(reason: Any) -> str:
    """Why a graph ends: the first line of Dynamo's words, and the line of the model."""
    text = str(reason.reason).strip().splitlines()[0]
    frame = reason.user_stack[-1] if reason.user_stack else None
    return text if frame is None else f"{text} ({frame.filename}:{frame.lineno}: {frame.line})"


def _missing(compiled: Compiled, plan: PlanLike | None) -> tuple[str, ...]:
    """The sites and patterns of a plan that say nothing of any graph."""
    if plan is None or one_format(plan) is not None:
        return ()
    placed = compiled.report.placed
    return tuple(
        name for name in entries_of(plan) if not any(fnmatchcase(site, name) for site in placed)
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
