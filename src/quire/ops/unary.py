"""Functions of one number, applied to every element: one table from aten name to function name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from quire.ops.base import Op, Operand, Target, register
from quire.ops.exact_arithmetic import clamp, relu
from quire.ops.exact_value import Exact, Origin, fp32, from_float, in_float64, nearest_float32
from quire.ops.real_functions import FUNCTIONS, RealFunction, tabulate

aten = torch.ops.aten

INPUT = Operand("input", 0, "unary")
OUTPUT = Operand("output", None, "unary")

_SMOOTH: dict[str, tuple[Target, ...]] = {
    "gelu": (aten.gelu.default,),
    "silu": (aten.silu.default,),
    "mish": (aten.mish.default,),
    "sigmoid": (aten.sigmoid.default,),
    "log_sigmoid": (aten.log_sigmoid.default,),
    "hardsigmoid": (aten.hardsigmoid.default,),
    "hardswish": (aten.hardswish.default,),
    "tanh": (aten.tanh.default,),
    "elu": (aten.elu.default,),
    "celu": (aten.celu.default,),
    "selu": (aten.selu.default,),
    "softplus": (aten.softplus.default,),
    "exp": (aten.exp.default,),
    "expm1": (aten.expm1.default,),
    "log": (aten.log.default,),
    "log1p": (aten.log1p.default,),
    "sqrt": (aten.sqrt.default,),
    "rsqrt": (aten.rsqrt.default,),
    "reciprocal": (aten.reciprocal.default,),
    "erf": (aten.erf.default,),
    "sin": (aten.sin.default,),
    "cos": (aten.cos.default,),
    "pow": (aten.pow.Tensor_Scalar,),
}

WIDEST_CODES = 16
"""Bits of the widest scalar format whose codes index a table."""


def _table(name: str, target: Target, x: Exact, *constants: Any, **options: Any) -> Exact:
    """The correctly rounded function of a narrow scalar format; of any other input, a float.

    The real values go along, for a scalar cast that follows; without one they are fp32.
    """
    if x.format is None or x.format.is_block or x.format.bits > WIDEST_CODES:
        return in_float64(target, x, *constants, **options)
    constants = tuple(fp32(c) for c in constants)
    argument = x.to_sticky_float64()
    fallback = target(argument, *constants, **options)
    values = tabulate(name, argument, fallback, *constants, **options)
    return replace(from_float(nearest_float32(values)), origin=Origin(None, values))


def _clamp(target: Target, x: Exact, *bounds: float, **options: float) -> Exact:
    names = ("max",) if target is aten.clamp_max.default else ("min", "max")
    given = {**dict(zip(names, bounds, strict=False)), **options}
    return clamp(x, given.get("min"), given.get("max"))


def _hardtanh(target: Target, x: Exact, low: float = -1, high: float = 1) -> Exact:
    return clamp(x, low, high)


def unary(name: str, function: RealFunction, *targets: Target) -> Op:
    """Register a function of one number, whose exact meaning is a table over narrow inputs.

    function: in mpmath, of an mpf and of the further arguments of the targets, with their defaults.
    """
    FUNCTIONS[name] = function
    return register(Op(name, targets, (INPUT, OUTPUT), exact=partial(_table, name)))


_PIECEWISE_LINEAR: dict[str, tuple[Callable[..., Exact], tuple[Target, ...]]] = {
    "relu": (lambda target, x: relu(x), (aten.relu.default,)),
    "relu6": (lambda target, x: clamp(x, 0, 6), (aten.relu6.default,)),
    "hardtanh": (_hardtanh, (aten.hardtanh.default,)),
    "clamp": (_clamp, (aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default)),
}

UNARY = {name: unary(name, FUNCTIONS[name], *targets) for name, targets in _SMOOTH.items()} | {
    name: register(Op(name, targets, (INPUT, OUTPUT), exact=meaning))
    for name, (meaning, targets) in _PIECEWISE_LINEAR.items()
}
LEAKY_RELU = register(
    Op(
        name="leaky_relu",
        targets=(aten.leaky_relu.default,),
        operands=(INPUT, Operand("slope", 1, "constant"), OUTPUT),
        exact=partial(_table, "leaky_relu"),
    )
)
PRELU = register(
    Op(
        name="prelu",
        targets=(aten.prelu.default,),
        operands=(INPUT, Operand("slope", 1, "weight"), OUTPUT),
    )
)
