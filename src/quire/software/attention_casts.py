"""The formats inside attention: what a fused kernel can do with them, and in which arithmetic."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats import Block, Format
from quire.formats.base import Scalar
from quire.software.kernels.elements import rounding_of

LONGEST_BLOCK = 128
"""Keys that a tile of the kernel holds: blocks along them may not be longer."""


class Casts(NamedTuple):
    """The formats of the operands of attention; None where an operand is taken as it is.

    Blocks of query and key run along the head's dimension, those of probabilities and value along
    the keys (docs/numerics.md, "Axes").
    """

    query: Format | None
    key: Format | None
    probabilities: Format | None
    value: Format | None

    def problem(self) -> str | None:
        """Why these casts do not run in a fused kernel, or None."""
        if self.probabilities is None:
            return "no cast rounds the probabilities: scaled_dot_product_attention serves"
        for name, format in self._asdict().items():
            problem = _problem(format, along_keys=name in ("probabilities", "value"))
            if problem:
                return f"{name}: {problem}"
        return None


def _problem(format: Format | None, along_keys: bool) -> str | None:
    if format is None:
        return None
    try:
        size = rounding_of(format).size
    except FormatError as error:
        return str(error)
    if along_keys and size > LONGEST_BLOCK:
        return f"{format}: a tile of the kernel holds blocks of {LONGEST_BLOCK} keys at most"
    return None


class Product(NamedTuple):
    """How a product is taken: the dtype of its operands, and the `input_precision` of tl.dot, which
    counts for float32."""

    dtype: torch.dtype
    precision: str

    @property
    def is_slow(self) -> bool:
        """Whether it runs on the CUDA cores."""
        return self.precision == "ieee"


def products(casts: Casts, query: Tensor, key: Tensor, value: Tensor) -> tuple[Product, Product]:
    """The cheapest products, of queries with keys and of probabilities with values, in which no
    operand is rounded."""
    scores = (significant_bits(casts.query, query.dtype), significant_bits(casts.key, key.dtype))
    values = (
        significant_bits(casts.probabilities, torch.float32),
        significant_bits(casts.value, value.dtype),
    )
    return _product(max(scores)), _product(max(values))


BFLOAT16_BITS, TF32_BITS = 8, 11


def _product(bits: int) -> Product:
    if bits <= BFLOAT16_BITS:
        return Product(torch.bfloat16, "tf32")
    return Product(torch.float32, "tf32" if bits <= TF32_BITS else "ieee")


_DTYPE_BITS = {torch.bfloat16: BFLOAT16_BITS, torch.float16: TF32_BITS}


def significant_bits(format: Format | None, dtype: torch.dtype) -> int:
    """Bits of the significands of an operand; more than 8 where bfloat16 lacks the range."""
    given = _DTYPE_BITS.get(dtype, 24)
    if format is None:
        return given
    element = format.element if isinstance(format, Block) else format
    assert isinstance(element, Scalar)
    try:
        format.check_dtype(torch.bfloat16)
    except FormatError:
        return max(element.precision, BFLOAT16_BITS + 1)
    return element.precision
