"""The type of an edge: a tensor's shape and the number format of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

BATCH = "batch"

_FORMATS = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


@dataclass(frozen=True)
class TensorType:
    """Shape and format of one tensor of a graph.

    shape: sizes; one that depends on the batch is a string such as "batch" or "16*batch".
    format: the number format of the values ("fp32", "bf16", ...), or the name of the dtype for
        integers and booleans ("int64", "bool").
    example: the shape for one example, every size a number.
    """

    shape: tuple[int | str, ...]
    format: str
    example: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether the values are numbers that a cast can round, not indices or booleans."""
        return not self.format.startswith(("int", "uint", "bool", "complex"))

    def __str__(self) -> str:
        return f"{self.format}[{', '.join(map(str, self.shape))}]"


def type_of(node: Node) -> TensorType | None:
    """The type of the tensor that `node` produces; None if it produces none, or several."""
    return node.meta.get("quire_type")


def float_type(value: object) -> TensorType | None:
    """The type of `value` where it is a node that produces a tensor of numbers, else None."""
    found = type_of(value) if isinstance(value, Node) else None
    return found if found is not None and found.is_float else None


def infer_type(value: object) -> TensorType | None:
    """The type of a traced tensor (`node.meta["val"]`); None for anything else."""
    if not isinstance(value, torch.Tensor):
        return None
    return TensorType(
        shape=tuple(_symbolic(size) for size in value.shape),
        format=_FORMATS.get(value.dtype, str(value.dtype).removeprefix("torch.")),
        example=tuple(_for_one_example(size) for size in value.shape),
    )


def _symbolic(size: Any) -> int | str:
    expression = _expression(size)
    if expression is None:
        return int(size)
    return str(expression.subs(dict.fromkeys(expression.free_symbols, BATCH)))


def _for_one_example(size: Any) -> int:
    expression = _expression(size)
    if expression is None:
        return int(size)
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _expression(size: Any) -> Any:
    """The sympy expression of a size that depends on the batch, else None."""
    if not isinstance(size, torch.SymInt) or size.node.expr.is_number:
        return None
    return size.node.expr
