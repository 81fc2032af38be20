"""How far the outputs of a quantized model are from those of the fp32 model, as one number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Outputs = Sequence[Tensor]  # the floating-point outputs of one batch


@dataclass(frozen=True)
class Divergence:
    """A distance between outputs that is zero where they are equal, and quadratic near there.

    name: "kl" or "error". words: what it is, for people.
    total: (reference, outputs) of one batch -> their distance, and what the sum of distances over
        the batches is divided by.
    cotangent: (reference, generator) -> a random gradient of the outputs. Its vector-Jacobian
        product g at a tensor has E[(g . e)^2] * curvature = the distance that a small change e
        of that tensor makes, to second order, not yet divided.
    """

    name: str
    words: str
    total: Callable[[Outputs, Outputs], tuple[float, float]]
    cotangent: Callable[[Outputs, torch.Generator], list[Tensor]]
    curvature: float

    def mean(self, pairs: Sequence[tuple[float, float]]) -> float:
        """The distance over all batches; infinite where an output is no finite number."""
        distance, weight = (math.fsum(part) for part in zip(*pairs, strict=True))
        return distance / weight if math.isfinite(distance) and weight else math.inf


def tensors_of(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in what a model returns; of a mapping with "logits", those."""
    if isinstance(outputs, Mapping) and "logits" in outputs:
        outputs = cast("Mapping[str, Any]", outputs)["logits"]
    leaves = pytree.tree_leaves(outputs)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def is_logits(outputs: Outputs) -> bool:
    """Whether outputs can be read as logits: one tensor of rows with two values or more."""
    return len(outputs) == 1 and outputs[0].dim() >= 2 and outputs[0].shape[-1] >= 2


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.detach().cpu().double().log_softmax(-1)


def _kl(reference: Outputs, outputs: Outputs) -> tuple[float, float]:
    log_p, log_q = _log_probabilities(reference[0]), _log_probabilities(outputs[0])
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0)  # 0 log 0 is 0
    return float(terms.sum()), float(p.numel() // p.shape[-1])


def _sampled_label(reference: Outputs, generator: torch.Generator) -> list[Tensor]:
    """The gradient of -log p(y) for a label y drawn from p itself, row by row."""
    p = _log_probabilities(reference[0]).exp()
    drawn = torch.multinomial(p.reshape(-1, p.shape[-1]), 1, generator=generator)
    label = torch.zeros_like(p).reshape(-1, p.shape[-1]).scatter_(1, drawn, 1.0)
    return [(p - label.reshape(p.shape)).to(reference[0])]


def _error(reference: Outputs, outputs: Outputs) -> tuple[float, float]:
    distance = energy = 0.0
    for r, q in zip(reference, outputs, strict=True):
        kept = r.isfinite()  # a mask in the outputs is no error
        values = r[kept].detach().cpu().double()
        distance += float((q[kept].detach().cpu().double() - values).square().sum())
        energy += float(values.square().sum())
    return distance, energy


def _random_signs(reference: Outputs, generator: torch.Generator) -> list[Tensor]:
    signs = (torch.randint(2, x.shape, generator=generator) * 2 - 1 for x in reference)
    return [sign.to(x) for sign, x in zip(signs, reference, strict=True)]


KL = Divergence(
    "kl",
    "KL(fp32 || quantized) of the outputs as logits, nats a row",
    _kl,
    _sampled_label,
    0.5,
)
ERROR = Divergence(
    "error",
    "error energy of the outputs, relative to that of the fp32 ones",
    _error,
    _random_signs,
    1.0,
)
