"""Functions of one number, applied to every element: one table from aten name to function name."""

import torch

from quire.ops.base import Op, Operand, Target, register

aten = torch.ops.aten

_FUNCTIONS: dict[str, tuple[Target, ...]] = {
    "relu": (aten.relu.default,),
    "relu6": (aten.relu6.default,),
    "hardtanh": (aten.hardtanh.default,),
    "clamp": (aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default),
    "gelu": (aten.gelu.default,),
    "silu": (aten.silu.default,),
    "mish": (aten.mish.default,),
    "sigmoid": (aten.sigmoid.default,),
    "log_sigmoid": (aten.log_sigmoid.default,),
    "hardsigmoid": (aten.hardsigmoid.default,),
    "hardswish": (aten.hardswish.default,),
    "tanh": (aten.tanh.default,),
    "elu": (aten.elu.default,),
    "selu": (aten.selu.default,),
    "softplus": (aten.softplus.default,),
    "exp": (aten.exp.default,),
    "log": (aten.log.default,),
    "sqrt": (aten.sqrt.default,),
    "rsqrt": (aten.rsqrt.default,),
    "reciprocal": (aten.reciprocal.default,),
    "erf": (aten.erf.default,),
    "sin": (aten.sin.default,),
    "cos": (aten.cos.default,),
    "pow": (aten.pow.Tensor_Scalar,),
}

INPUT = Operand("input", 0, "unary")
OUTPUT = Operand("output", None, "unary")

UNARY = {
    name: register(Op(name=name, targets=targets, operands=(INPUT, OUTPUT)))
    for name, targets in _FUNCTIONS.items()
}
LEAKY_RELU = register(
    Op(
        name="leaky_relu",
        targets=(aten.leaky_relu.default,),
        operands=(INPUT, Operand("slope", 1, "constant"), OUTPUT),
    )
)
PRELU = register(
    Op(
        name="prelu",
        targets=(aten.prelu.default,),
        operands=(INPUT, Operand("slope", 1, "weight"), OUTPUT),
    )
)
