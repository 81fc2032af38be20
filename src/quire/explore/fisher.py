"""First-order scores: what each format at each site costs the outputs, from one backward pass.

A tensor that a cast changes by e moves the outputs by J e, and their divergence from the fp32
outputs, to second order, by e' F e: F is the Fisher information for KL (Martens 2020, "New insights
and perspectives on the natural gradient method", section 9), J'J for the error energy. F is
estimated as g g', with g the gradient at the tensor for labels drawn from the model itself (random
signs for the error energy, Hutchinson 1990), of which the diagonal is kept: sum((g e)^2). That is
the Fisher trace of HAWQ-V2 (Dong et al. 2020) and FIT (Zandonati et al. 2023) with the squared
error of each element in place of its mean. Drawn labels make the gradients of the rows independent
with mean zero, so that the square of their sum is an unbiased estimate of the sum of their squares,
and one backward pass serves weights as well as activations. Given labels, the "empirical" Fisher,
have neither property (Kunstner et al. 2019).

A corrected weight is scored by what its format scores alone, times the share of the mean squared
error of its products that the correction leaves: its errors make up for each other in the products,
which a diagonal does not see.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from quire.explore.divergence import Divergence, tensors_of
from quire.graph import Site
from quire.precision import cast as quire_cast
from quire.precision.correct import Corrected
from quire.precision.quantize import cast_args, needs_patches
from quire.precision.switchable import Slot

Seen: TypeAlias = tuple[Site, Tensor, Tensor]  # a site, its tensor, the zero that was added

EVALUATIONS = 3  # that the scores cost: a backward pass counts as two forward ones


class FisherScores:
    """Scores of the formats of a space on one graph, batch after batch.

    graph: a `Switchable` graph under the empty plan.
    wanted: {tie group: formats} to score.
    noise: for a site and a format, the error energy relative to that of the data; used where a
        cast rounds windows of the tensor, not the tensor.
    corrected: for a site and a format, what its corrections come to.
    """

    def __init__(
        self,
        graph: GraphModule,
        divergence: Divergence,
        wanted: Mapping[str, Sequence[str]],
        noise: Callable[[str, str], float],
        corrected: Callable[[str, str], Corrected],
        seed: int = 0,
    ) -> None:
        self._graph, self._divergence, self._noise = graph, divergence, noise
        self._corrected = corrected
        self._formats = wanted
        self._generator = torch.Generator().manual_seed(seed)
        self._scores: defaultdict[tuple[str, str], float] = defaultdict(float)

    def add(self, run: Callable[[], Any]) -> None:
        """Take note of one batch; `run` runs it through the graph."""
        seen: list[Seen] = []
        with torch.enable_grad(), _probes(self._graph, self._formats, seen):
            outputs = tensors_of(run())
            cotangent = self._divergence.cotangent(outputs, self._generator)
            probes = [zero for _, _, zero in seen]
            gradients = torch.autograd.grad(outputs, probes, cotangent, allow_unused=True)
        found = cast("Sequence[Tensor | None]", gradients)
        for (site, x, _), g in zip(seen, found, strict=True):
            if g is not None:
                for format in self._formats[site.tie]:
                    self._scores[site.tie, format] += self._score(site, x, g, format)

    def of(self, tie: str, format: str, weight: float) -> float | None:
        """A score in units of the divergence of the given weight; None where no tensor was seen,
        as of a scalar constant."""
        score = self._scores.get((tie, format))
        return None if score is None else self._divergence.curvature * score / weight

    def _score(self, site: Site, x: Tensor, g: Tensor, format: str) -> float:
        found = self._corrected(site.name, format)
        entry = found.entry
        if needs_patches(site, entry.format):
            mean = self._noise(site.name, format) * float(x.double().square().mean())
            return mean * float(g.double().square().sum())
        with torch.no_grad():
            error = quire_cast(x, *cast_args(site, entry)) - x
        return found.gain * float(torch.where(g == 0, 0.0, g * error).double().square().sum())


@contextmanager
def _probes(graph: GraphModule, wanted: Container[str], seen: list[Seen]) -> Generator[None]:
    """Add a zero with a gradient to the tensor of each wanted slot, and list what passes there."""

    def probe(slot: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = args[0]
        if not isinstance(slot, Slot) or not isinstance(x, Tensor) or slot.site.tie not in wanted:
            return None
        zero = torch.zeros_like(x, requires_grad=True)
        seen.append((slot.site, x.detach(), zero))
        return (x + zero, *args[1:])

    slots = [module for module in graph.modules() if isinstance(module, Slot)]
    hooks = [slot.register_forward_pre_hook(probe) for slot in slots]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
