"""`Program`: one captured graph as compiled code, for one mode of training and of gradients."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental import _config as symbolic_config

from quire.graph.rewrite import attribute
from quire.precision.copying import copy_graph
from quire.precision.inputs import flat_inputs, leaves
from quire.software.passes import PASSES, Pass
from quire.software.passes.base import GRADIENTS
from quire.software.report import Report
from quire.software.static import Static, hold_static, stamps

COMPILING = RLock()
"""Held while a graph is captured or compiled: both change what all threads share, such as modes of
PyTorch and its configuration."""


@dataclass(frozen=True)
class Options:
    """How graphs become code.

    mode: of `torch.compile`: None, "default", "reduce-overhead", "max-autotune", ...
    passes: the rows of the table that run, in this order.
    compiler: the Dynamo backend that takes the graph in the end.
    """

    mode: str | None = None
    passes: tuple[Pass, ...] = PASSES
    compiler: str = "inductor"


class Program:
    """A captured or quantized graph after the passes, compiled as one graph at its first call."""

    def __init__(
        self,
        graph: GraphModule,
        examples: Sequence[Any],
        options: Options,
        report: Report,
        *,
        gradients: bool,
    ) -> None:
        """A copy of the graph is made ready; its parameters are shared.

        examples: inputs in the order of the placeholders, on which passes verify rewrites.
        gradients: whether they are wanted; otherwise what parameters alone decide is computed
            once (`hold_static`).
        """
        self.graph = copy_graph(graph)
        self.graph.meta[GRADIENTS] = gradients
        buffers = _buffers(self.graph)
        for row in options.passes:
            report.outcomes.extend(row.apply(self.graph, examples))
        self._folded = [buffers[name] for name in buffers.keys() - _buffers(self.graph).keys()]
        self._stamp = stamps(self._folded)
        self.static: Static | None = None if gradients else hold_static(self.graph)
        report.note(_static_note(self.static, gradients))
        self._axes = _dynamic_axes(self.graph)
        self._seen: set[tuple[Any, ...]] = set()
        self._run = torch.compile(
            self.graph.forward, fullgraph=True, mode=options.mode, backend=options.compiler
        )

    @property
    def is_stale(self) -> bool:
        """Whether a buffer was written that a pass has made part of the code, such as a mask."""
        return stamps(self._folded) != self._stamp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the graph returns for the inputs."""
        if self.static is not None:
            self.static.refresh()
        shapes = tuple(x.shape for x in leaves(args, kwargs) if isinstance(x, Tensor))
        if shapes in self._seen:
            return self._run(*args, **kwargs)
        flat = flat_inputs(self.graph, args, kwargs)
        with COMPILING, _quiet(), _any_batch([(flat[i], axes) for i, axes in self._axes]):
            result = self._run(*args, **kwargs)
        self._seen.add(shapes)
        return result


def _buffers(graph: GraphModule) -> dict[str, Tensor]:
    """The tensors that a graph reads by name and that are no parameters."""
    names = {str(node.target) for node in graph.graph.find_nodes(op="get_attr")}
    held = {name: attribute(graph, name) for name in names}
    return {
        name: x
        for name, x in held.items()
        if isinstance(x, Tensor) and not isinstance(x, nn.Parameter)
    }


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Ignore what PyTorch says of its own code, which it does as it imports its compiler."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module="torch")
        yield


def _static_note(static: Static | None, gradients: bool) -> str:
    if gradients:
        return (
            "gradients are enabled: weights are cast in every call (torch.no_grad() or "
            "torch.inference_mode() around a call casts them once)"
        )
    count = 0 if static is None else len(static.names)
    return f"{count} tensors that only parameters decide are computed once"


def _dynamic_axes(graph: GraphModule) -> list[tuple[int, tuple[int, ...]]]:
    """For the inputs with free sizes, by position: the axes that are free."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for index, node in enumerate(graph.graph.find_nodes(op="placeholder")):
        value = node.meta.get("val")
        sizes: Sequence[Any] = value.shape if isinstance(value, Tensor) else ()
        axes = tuple(i for i, size in enumerate(sizes) if isinstance(size, torch.SymInt))
        if axes:
            found.append((index, axes))
    return found


@contextmanager
def _any_batch(inputs: list[tuple[Any, tuple[int, ...]]]) -> Generator[None, None, None]:
    """Let one compilation serve every size of the free axes, 0 and 1 included.

    PyTorch compiles sizes of 0 and 1 apart unless its symbolic sizes are oblivious of them. The
    marks that it leaves on tensors are taken off, since they would bind other compilations.
    """
    marked = [(x, axes) for x, axes in inputs if isinstance(x, Tensor) and not _marks(x)]
    for x, axes in marked:
        for axis in axes:
            torch._dynamo.maybe_mark_dynamic(x, axis)  # pyright: ignore[reportPrivateUsage]
    try:
        with symbolic_config.patch(backed_size_oblivious=True):  # pyright: ignore
            yield
    finally:
        for x, _ in marked:
            for name in _marks(x):
                delattr(x, name)


def _marks(x: Tensor) -> list[str]:
    return [name for name in vars(x) if "dynamo" in name]
