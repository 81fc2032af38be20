"""The record of a known op, and the registry that finds it by target or by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from torch.fx import Node

if TYPE_CHECKING:
    from quire.ops.exact_value import Exact

Role = Literal[
    "weight",
    "activation",
    "bias",
    "residual",
    "unary",
    "softmax",
    "norm",
    "table",
    "constant",
    "input",
    "mask",
    "output",
]
Shape = tuple[int, ...]
Axis = int | tuple[int, ...]
Target = Callable[..., Any]


@dataclass(frozen=True)
class Operand:
    """One tensor of an op for which a format can be chosen.

    name: last part of the site's name.
    arg: position among the arguments of the call; None means the result of the op.
    role: what the tensor is to the op. A Python number in its place has the role "constant"; a
        "table" is none of the graph's tensors but part of the op, whose `exact` takes its format.
    axis: reduction axis, along which blocks run (`docs/numerics.md`, "Axes"), or a function of the
        call that gives it. A tuple of axes is flattened into one.
    is_operand: whether this is an operand of a product or convolution.
    static: name and role where the tensor is computed from parameters and constants alone.
    """

    name: str
    arg: int | None
    role: Role
    axis: Axis | Callable[[Node], Axis] = -1
    is_operand: bool = False
    static: tuple[str, Role] | None = None


def no_macs(output: Shape, inputs: Sequence[Shape]) -> int:
    """The op multiplies no matrices."""
    return 0


@dataclass(frozen=True)
class Op:
    """A known op: how it is called, where its formats are chosen, what it means and costs.

    name: the name in `node.meta["quire_op"]`, unique in the registry.
    targets: the aten overloads and plain functions whose call is this op.
    operands: the tensors whose format can be chosen, in the order of the sites.
    macs: multiply-accumulates from the shape of the result and the shapes of the positional
        arguments (`()` for an argument that is no tensor).
    exact: the exact meaning, called with the target and its arguments, each floating-point tensor
        an `Exact`, and the settings that a plan has for the op by keyword; None means that the op
        runs in float64 and its result is rounded once to fp32.
    """

    name: str
    targets: tuple[Target, ...]
    operands: tuple[Operand, ...] = ()
    macs: Callable[[Shape, Sequence[Shape]], int] = no_macs
    exact: Callable[..., Exact | list[Exact]] | None = None


_OPS: dict[str, Op] = {}
_BY_TARGET: dict[Target, Op] = {}


def register(op: Op) -> Op:
    """Add `op` to the registry and return it; ValueError if its name or a target is taken."""
    taken = [str(t) for t in op.targets if t in _BY_TARGET]
    if op.name in _OPS or taken:
        raise ValueError(f"op {op.name!r}: the name or the targets {taken} are registered already")
    _OPS[op.name] = op
    _BY_TARGET.update(dict.fromkeys(op.targets, op))
    return op


def all_ops() -> tuple[Op, ...]:
    """Every registered op, in the order of registration."""
    return tuple(_OPS.values())


def op_named(name: str) -> Op:
    """The op with this name; KeyError if there is none."""
    return _OPS[name]


def op_for_target(target: object) -> Op | None:
    """The op that a call of `target` is, or None for an unknown one."""
    return _BY_TARGET.get(target) if callable(target) else None


def op_of(node: Node) -> Op | None:
    """The op that capture assigned to `node`, or None for an unknown op and for what is no op."""
    name: str | None = node.meta.get("quire_op")
    return None if name is None else _OPS[name]


def result_times_inner(output: Shape, inputs: Sequence[Shape]) -> int:
    """MACs of a product whose first argument is contracted along its last axis."""
    return prod(output) * inputs[0][-1]
