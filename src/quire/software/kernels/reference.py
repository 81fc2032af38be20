"""The kernels that run everywhere: plain torch, which every other kernel is compared with.

Quantizing and dequantizing follow `Format.encode` and `Format.decode`; for integer elements the
same bits are computed in float32 throughout, which is several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.formats import Block, Fixed
from quire.software.kernels import Case, Kernel, Weight, register
from quire.software.mx.layout import (
    block_size,
    element_values,
    pack,
    row_blocks,
    row_bytes,
    scale_values,
    supports,
    unpack,
)

Encode = Callable[[Tensor, Block], tuple[Tensor, Tensor]]

_CHUNK = 2**23  # elements encoded at a time: in float64 and int64 they take less than 1 GB
_NAN = 255  # the E8M0 code


def encode(x: Tensor, format: Block) -> tuple[Tensor, Tensor]:
    """Codes, one a byte, and scales, as `Format.encode` gives them."""
    encoded = format.encode(x, -1)
    assert encoded.scales is not None
    return encoded.codes, encoded.scales


def quantize(x: Tensor, format: Block, encode: Encode = encode) -> tuple[Tensor, Tensor]:
    """Codes and scales of each row of x (m, k); `encode` finds them, the codes one a byte."""
    m, k = x.shape
    codes = x.new_empty((m, row_bytes(format, k)), dtype=torch.uint8)
    scales = x.new_empty((m, row_blocks(format, k)), dtype=torch.uint8)
    rows = max(1, _CHUNK // max(k, 1))
    for start in range(0, m, rows):
        part = slice(start, start + rows)
        elements, scales[part] = encode(x[part], format)
        codes[part] = pack(elements, format.bits)
    return codes, scales


def encode_integers(x: Tensor, format: Block) -> tuple[Tensor, Tensor]:
    """The same for fixed(w, w-2), whose emax is 0: a scale is the exponent of the maximum."""
    blocks = _blocks(x.float(), format)
    scales = blocks.abs().amax(-1).view(torch.int32) >> 23 & 255  # of Inf and NaN: 255
    # Of fixed(w, w-2) times 2^(w-2); a power of two by itself, since both together overflow.
    codes = (blocks * _reciprocals(x.device)[scales].unsqueeze(-1)).mul_(2 ** (format.bits - 2))
    largest = 2 ** (format.bits - 1) - 1
    codes = codes.nan_to_num_(0.0).round_().clamp_(-largest, largest)
    masked = codes.to(torch.int8).view(torch.uint8).bitwise_and_(2**format.bits - 1)
    return masked.flatten(-2)[..., : x.shape[-1]], scales.to(torch.uint8)


def dequantize(codes: Tensor, scales: Tensor, format: Block, k: int, dtype: torch.dtype) -> Tensor:
    """The values (m, k) of codes and scales, as `Format.decode` gives them."""
    elements = _blocks(_values(unpack(codes, format.bits, k), format), format)
    values = elements * scale_values(codes.device)[scales.int()].unsqueeze(-1)
    largest = torch.finfo(dtype).max
    return values.flatten(-2)[..., :k].clamp(-largest, largest).to(dtype)


def _values(codes: Tensor, format: Block) -> Tensor:
    """The values of the elements' codes, float32 (each is exact there)."""
    if not isinstance(format.element, Fixed):
        return element_values(format, codes.device)[codes.int()]
    # The sign bit to the top of the byte; what the shift adds to the power of two is taken off.
    unused = 8 - format.bits
    return (codes << unused).view(torch.int8).float().mul_(2.0 ** -(format.element.f + unused))


def linear(x: Tensor, weight: Weight, bias: Tensor | None, format: Block, n: int) -> Tensor:
    """x (m, k) times the dequantized weight (n, k), summed in fp32 and rounded once."""
    multiply = _multiply_bfloat16 if x.is_cuda and x.dtype == torch.bfloat16 else _multiply
    product = multiply(x, weight, format)
    return (product if bias is None else product + bias).to(x.dtype)


def _multiply(x: Tensor, weight: Weight, format: Block) -> Tensor:
    values = dequantize(weight.codes, weight.scales, format, x.shape[-1], torch.float32)
    return x.float() @ values.T


def _multiply_bfloat16(x: Tensor, weight: Weight, format: Block) -> Tensor:
    """An element is exact in bfloat16. With a float32 result cuBLAS adds parts in float32 too."""
    values = dequantize(weight.codes, weight.scales, format, x.shape[-1], torch.bfloat16)
    return torch.mm(x, values.T, out_dtype=torch.float32)


def _blocks(x: Tensor, format: Block) -> Tensor:
    """Rows (m, k) as (m, blocks, size), the last block padded with zeros."""
    size = block_size(format)
    padded = F.pad(x, (0, -x.shape[-1] % size)) if x.shape[-1] % size else x
    return padded.unflatten(-1, (-1, size))


def _reciprocals(device: torch.device) -> Tensor:
    """2^(127-c) for every E8M0 code c; for that of NaN, whose elements are immaterial, 2^-127."""
    powers = scale_values(device)[:_NAN]
    return torch.cat([powers.flip(0), powers[:1]])


def _supports(case: Case) -> bool:
    return supports(case.format)


def _has_integers(case: Case) -> bool:
    format = case.format
    return supports(format) and isinstance(format, Block) and isinstance(format.element, Fixed)


for _kernel in (
    Kernel(
        "torch integers", "mx_quantize", _has_integers, partial(quantize, encode=encode_integers)
    ),
    Kernel("torch mx_quantize", "mx_quantize", _supports, quantize),
    Kernel("torch mx_dequantize", "mx_dequantize", _supports, dequantize),
    Kernel("torch mx_linear", "mx_linear", _supports, linear),
):
    register(_kernel)
