"""`apply`: a plan on a live `nn.Module`, in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from quire.precision.cast import cast
from quire.precision.entry import Entry
from quire.software.applied import Applied, Rounding, Swap
from quire.software.assignment import assign
from quire.software.mx.linear import MXLinear
from quire.software.plans import PlanLike


def apply(
    model: nn.Module,
    plan: PlanLike,
    *,
    graph: GraphModule | None = None,
    quiet: bool = False,
) -> Applied:
    """Apply a plan to a live module in place; returns and prints what was done, and what was not.

    model: keeps its class and its methods; its linear layers whose weight has an MXInt or MXFP
        format become `MXLinear`, which hold codes and scales.
    plan: a `Plan`, a mapping {site or pattern: format}, the path of a plan's file, or one format
        for the weights of all linear layers. An fp32 entry leaves its tensor as it is.
    graph: the captured model, for plans that name one of several tied inputs.
    quiet: do not print.

    Other parameters with an entry, and weights in other formats or shared with another module, are
    rounded in place: the values of the plan, in the memory of before. The input of a linear layer
    is cast before its product. Sites that no module holds (attention's products, residuals, ...)
    are in the report's `left`. Raises `PlanError` for names that the model does not have, before
    anything is changed.
    """
    found = assign(model, plan, graph)
    for path, swap in found.swapped.items():
        model.set_submodule(path, swapped(model.get_submodule(path), swap))
    for name, rounding in found.rounded.items():
        round_parameter(model.get_parameter(name), rounding)
    for path, entry in found.cast.items():
        add_cast(model.get_submodule(path), entry)
    if not quiet:
        print(found)
    return found


def swapped(linear: nn.Module, swap: Swap) -> MXLinear:
    """The `MXLinear` of a linear layer."""
    return MXLinear.from_linear(linear, swap.weight.text, **input_options(swap))


def input_options(swap: Swap) -> dict[str, Any]:
    """The options of `MXLinear` for the entry of its input."""
    entry = swap.input
    return {} if entry is None else {"input_format": entry.text, "input_scale": entry.scale}


@torch.no_grad()
def round_parameter(parameter: nn.Parameter, rounding: Rounding) -> None:
    """Put the values of an entry in the place of a parameter's."""
    entry = rounding.entry
    parameter.copy_(cast(parameter, entry.text, rounding.axis, entry.scale))


@dataclass(frozen=True)
class InputCast:
    """A forward pre-hook that casts the first argument along its last axis."""

    entry: Entry

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return cast(args[0], self.entry.text, -1, self.entry.scale), *args[1:]


def add_cast(module: nn.Module, entry: Entry) -> None:
    """Cast the input of a module from now on."""
    module.register_forward_pre_hook(InputCast(entry))
