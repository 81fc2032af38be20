"""The kernels that run everywhere: plain torch, which every other kernel is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.formats import Block
from quire.software.kernels import Kernel, Weight, register
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

# Encoding goes through float64 and int64; so many elements at a time keep that within 1 GB.
_CHUNK = 2**23


def quantize(x: Tensor, format: Block) -> tuple[Tensor, Tensor]:
    """Codes and scales of each row of x (m, k), as `Format.encode` gives them."""
    m, k = x.shape
    codes = x.new_empty((m, row_bytes(format, k)), dtype=torch.uint8)
    scales = x.new_empty((m, row_blocks(format, k)), dtype=torch.uint8)
    rows = max(1, _CHUNK // max(k, 1))
    for start in range(0, m, rows):
        encoded = format.encode(x[start : start + rows], -1)
        assert encoded.scales is not None
        codes[start : start + rows] = pack(encoded.codes, format.bits)
        scales[start : start + rows] = encoded.scales
    return codes, scales


def dequantize(codes: Tensor, scales: Tensor, format: Block, k: int, dtype: torch.dtype) -> Tensor:
    """The values (m, k) of codes and scales, as `Format.decode` gives them."""
    device, size = codes.device, block_size(format)
    elements = element_values(format, device)[unpack(codes, format.bits, k).int()]
    padded = F.pad(elements, (0, -k % size)).unflatten(-1, (-1, size))
    values = padded * scale_values(device)[scales.int()].unsqueeze(-1)
    largest = torch.finfo(dtype).max
    return values.flatten(-2)[..., :k].clamp(-largest, largest).to(dtype)


def linear(x: Tensor, weight: Weight, bias: Tensor | None, format: Block, n: int) -> Tensor:
    """x (m, k) times the dequantized weight (n, k), summed in fp32 and rounded once."""
    k = x.shape[-1]
    dtype = torch.bfloat16 if x.is_cuda and x.dtype == torch.bfloat16 else torch.float32
    values = dequantize(weight.codes, weight.scales, format, k, dtype)
    if dtype == x.dtype:  # an element is exact in bfloat16, and cuBLAS sums in fp32
        return F.linear(x, values, None if bias is None else bias.to(dtype))
    return F.linear(x.float(), values, None if bias is None else bias.float()).to(x.dtype)


_RUNS = {"mx_quantize": quantize, "mx_dequantize": dequantize, "mx_linear": linear}

for _op, _run in _RUNS.items():
    register(Kernel(f"torch {_op}", _op, lambda case: supports(case.format), _run))
