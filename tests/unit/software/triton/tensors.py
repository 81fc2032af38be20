"""Tensors that hold what is hard to quantize, and poison for what a kernel has to overwrite."""

import itertools

import torch
from torch import Tensor

from quire.formats import Block
from quire.software.mx.layout import BLOCK_SIZES, E8M0, ELEMENTS, block_size, unpack

FORMATS = [Block(element, size, E8M0) for element, size in itertools.product(ELEMENTS, BLOCK_SIZES)]
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
CASES = [(fmt, DTYPES[index % 3]) for index, fmt in enumerate(FORMATS)]
"""Every format, and with each element every dtype."""


def hard(m: int, k: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Random rows (m >= 9, k >= 64) over many binades; among them ties, zeros of both signs, NaN
    and Inf, subnormal numbers and the largest ones of float32."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(-20, 20, (m, 1), generator=generator)
    x = torch.randn(m, k, generator=generator) * torch.exp2(exponents.float())
    x[0, :40] *= 2.0**-130
    x[1, 3] = torch.nan
    x[2, 50], x[2, 7] = -torch.inf, torch.inf
    x[3] = 0.0
    x[4], x[4, 0] = -0.0, 1.0
    x[5] = torch.arange(k) * 2.0**-7 - 0.5  # ties for elements of up to 7 bits
    x[6] *= 2.0**-140
    x[7], x[7, ::3] = 3.4e38, -1e38
    x[8] = torch.randint(-64, 64, (k,), generator=generator) / 32
    return x.to(dtype)


def random_bytes(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """uint8 of any value; of scales, the first rows hold the smallest, the largest and NaN."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, but that any NaN equals any other."""
    zeros = (a.signbit() == b.signbit()) & (a == b)
    return a.dtype == b.dtype and a.shape == b.shape and bool((zeros | a.isnan() & b.isnan()).all())


def meaningful(codes: Tensor, scales: Tensor, fmt: Block, k: int) -> Tensor:
    """The codes of rows of k elements, one a byte; zero in blocks whose scale is NaN."""
    block = torch.arange(k, device=codes.device) // block_size(fmt)
    return unpack(codes, fmt.bits, k).masked_fill(scales[:, block] == 255, 0)


def product_bound(x: Tensor, weight: Tensor, bias: Tensor, exact: Tensor) -> Tensor:
    """How far a float32-accumulated product may lie from the exact one (docs/numerics.md,
    "Graphs"), its result rounded to x's dtype.

    x (m, k) and bias (n,): of the product's dtype; weight (n, k) and exact (m, n): float64.
    """
    k = x.shape[1]
    sums = x.double().abs() @ weight.abs().T + bias.double().abs()
    rounding = 0.5 * torch.finfo(x.dtype).eps * exact.abs() * (1 + 2**-10)
    return 2 * (k + 2) * 2.0**-24 * sums + rounding + torch.finfo(x.dtype).tiny
