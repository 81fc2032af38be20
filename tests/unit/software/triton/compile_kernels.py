"""Compiles every Triton kernel for a compute capability, without a device; prints their names.

Run as a script, because a process has either the interpreter of Triton or its compiler.
"""

import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from quire.formats import Block
from quire.software.attention import casts_of
from quire.software.kernels import Weight
from quire.software.kernels.triton.attention import attention
from quire.software.kernels.triton.linear import linear
from quire.software.kernels.triton.quantize import dequantize, quantize, quantize_both
from quire.software.mx.layout import E8M0, ELEMENTS, row_blocks, row_bytes

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class _Driver:
    """As much of a driver as the compiler asks for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def _compile_only(kernel: JITFunction, grid: Any) -> Any:
    def launch(*args: Any, **kwargs: Any) -> None:
        compiled = kernel.run(*args, grid=grid, warmup=True, **kwargs)
        print(kernel.__name__, len(compiled.asm["cubin"]))

    return launch


def compile_mx() -> None:
    """The kernels of block formats, each element with some dtype."""
    n, k = 256, 512
    for index, element in enumerate(ELEMENTS):
        fmt, dtype = Block(element, 32, E8M0), DTYPES[index % 3]
        x = torch.zeros(64, k, dtype=dtype)
        codes, scales = quantize(x, fmt)
        quantize_both(x, fmt)
        dequantize(codes, scales, fmt, k, dtype)
        sizes = (row_bytes(fmt, k), row_blocks(fmt, k))
        weight = Weight(*(torch.zeros(n, size, dtype=torch.uint8) for size in sizes))
        linear(x, weight, None, fmt, n, splits=2)


def compile_attention() -> None:
    """Attention of one query and of many, in each of the three kinds of products."""
    mxint8 = ("mxint8",) * 4
    for queries, formats in ((1, mxint8), (512, mxint8), (512, (None, None, "mxint8", None))):
        for dtype in DTYPES:
            query, key = (
                torch.zeros(1, h, t, 128, dtype=dtype) for h, t in ((2, queries), (1, 512))
            )
            mask = torch.zeros(queries, 512)
            attention(query, key, key, mask, casts_of(*formats), 0.125, True)


def main(capability: int) -> None:
    """Compile a case or more of each kernel."""
    driver.set_active(_Driver(capability))
    JITFunction.__getitem__ = _compile_only
    compile_mx()
    compile_attention()


if __name__ == "__main__":
    main(int(sys.argv[1]))
