"""The tensors of a live model that a plan may name: its parameters, and inputs of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from quire.precision.cast import Axis
from quire.software.mx.linear import TRANSPOSED, class_name, is_linear

AXES: dict[type[nn.Module], Axis] = {
    nn.Embedding: 1,
    nn.Conv1d: (1, 2),
    nn.Conv2d: (1, 2, 3),
    nn.Conv3d: (1, 2, 3, 4),
}
"""{module: the axis of its weight's site}, besides linear layers (docs/numerics.md, "Axes")."""


@dataclass(frozen=True)
class Place:
    """A tensor of a live model that a plan may name: a parameter, or the input of a linear layer.

    name: the site's, "<module path>.<operand>". group: equal for the names of one tensor.
    axis: of the site; None where it is not known. alone: whether no other name shares the tensor.
    """

    name: str
    path: str
    operand: str
    module: nn.Module
    group: str
    axis: Axis | None
    dtype: torch.dtype
    alone: bool

    @property
    def is_weight_of_linear(self) -> bool:
        return self.operand == "weight" and is_linear(self.module)


def places(model: nn.Module, tied: Mapping[str, str] | None = None) -> dict[str, Place]:
    """Every place of a model by name. tied: {parameter: one it will share its tensor with}."""
    group_of: dict[int, str] = {}
    groups: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups[name] = group_of.setdefault(id(parameter), name)
    for name, source in (tied or {}).items():
        groups[name] = groups[source] = groups.get(source, source)
    members = list(groups.values())
    found = [
        Place(
            name=f"{path}.{operand}" if path else operand,
            path=path,
            operand=operand,
            module=module,
            group=(group := groups.get(f"{path}.{operand}".lstrip("."), f"{path}.{operand}")),
            axis=axis,
            dtype=dtype,
            alone=members.count(group) <= 1,
        )
        for path, module in model.named_modules()
        for operand, axis, dtype in _operands(module)
    ]
    return {place.name: place for place in found}


def _operands(module: nn.Module) -> Iterator[tuple[str, Axis | None, torch.dtype]]:
    """The places of one module: (operand, axis, dtype)."""
    own = dict(module.named_parameters(recurse=False))
    if is_linear(module):
        yield "input", -1, own["weight"].dtype
    for name, parameter in own.items():
        if parameter.is_floating_point():
            yield name, _axis(module, name, parameter.ndim), parameter.dtype


def _axis(module: nn.Module, name: str, rank: int) -> Axis | None:
    if rank < 2:
        return -1
    if name == "weight" and is_linear(module):
        return 0 if TRANSPOSED[class_name(module)] else 1
    return AXES.get(type(module)) if name == "weight" else None
