"""The CUDA kernels that quantize and dequantize (`mx_cast.cu`): build, launch, records."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from quire.errors import KernelError
from quire.formats import Block
from quire.software import kernels
from quire.software.kernels import Case, Kernel
from quire.software.kernels.cuda.build import build, can_build, load
from quire.software.kernels.cuda.linear import ARCHITECTURES
from quire.software.kernels.elements import rounding_of
from quire.software.mx.layout import row_blocks, row_bytes, supports

SOURCE = "mx_cast.cu"
TYPES = {torch.bfloat16: "__nv_bfloat16", torch.float16: "__half", torch.float32: "float"}


def defines(format: Block, dtype: torch.dtype) -> dict[str, object]:
    """The macros with which the source is built: the record of the format, and the dtype."""
    rounding = rounding_of(format)._asdict()
    macros = {**rounding.pop("element")._asdict(), **rounding}
    values = {f"QUIRE_{name.upper()}": _literal(value) for name, value in macros.items()}
    return {**values, "QUIRE_TYPE": TYPES[dtype], "QUIRE_MAX": torch.finfo(dtype).max}


def _literal(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


@cache
def library(format: Block, dtype: torch.dtype, capability: tuple[int, int]) -> ctypes.CDLL:
    """The kernels of a format and a dtype, built if need be."""
    return load(build(SOURCE, defines(format, dtype), ARCHITECTURES[capability]))


def quantize(x: Tensor, format: Block) -> tuple[Tensor, Tensor]:
    """Plain codes and scales of each row of x (m, k), bit for bit `Format.encode`.

    x: float32, bfloat16 or float16, contiguous. A block with NaN or Inf has the scale 255. Raises
    `KernelError` where the kernel cannot be built.
    """
    m, k = x.shape
    codes, scales = _new_plain(x, format, m, k)
    _launch("quire_mx_quantize", format, x.dtype, (codes, scales, x), m, k)
    return codes, scales


def quantize_both(x: Tensor, format: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes and scales of the rows of x (m, k), and those of its columns; x is read once.

    x: as in `quantize`. The columns come as the rows of x transposed, in the plain layout: codes
    (k, ceil(m * bits / 8)) and scales (k, ceil(m / size)). So each operand of a training step has
    its codes side by side along the axis that is summed over: rows for x W^T, columns for the
    gradient of W, which sums over the rows of x.
    """
    m, k = x.shape
    plain, columns = _new_plain(x, format, m, k), _new_plain(x, format, k, m)
    _launch("quire_mx_quantize_both", format, x.dtype, (*plain, *columns, x), m, k)
    return (*plain, *columns)


def dequantize(codes: Tensor, scales: Tensor, format: Block, k: int, dtype: torch.dtype) -> Tensor:
    """The values (m, k) of plain codes and scales, bit for bit `Format.decode`.

    dtype: float32, bfloat16 or float16; a value beyond its range saturates.
    """
    m = codes.shape[0]
    out = torch.empty((m, k), dtype=dtype, device=codes.device)
    _launch("quire_mx_dequantize", format, dtype, (out, codes, scales), m, k)
    return out


def _new_plain(x: Tensor, format: Block, m: int, k: int) -> tuple[Tensor, Tensor]:
    sizes = (row_bytes(format, k), row_blocks(format, k))
    codes, scales = (torch.empty((m, s), dtype=torch.uint8, device=x.device) for s in sizes)
    return codes, scales


def _launch(
    name: str, format: Block, dtype: torch.dtype, tensors: tuple[Tensor, ...], m: int, k: int
) -> None:
    device = tensors[0].device
    if not m * k:
        return
    function = getattr(library(format, dtype, torch.cuda.get_device_capability(device)), name)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
    with torch.cuda.device(device):
        failed = function(*pointers, ctypes.c_int64(m), ctypes.c_int64(k), stream)
    if failed:
        raise KernelError(f"{name} failed for {m} rows of {k} in {format}: CUDA error {failed}")


def _takes(case: Case) -> bool:
    """Whether these kernels run a case."""
    return case.capability in ARCHITECTURES and supports(case.format) and can_build()


_RUNS: dict[str, Any] = {
    "mx_quantize": quantize,
    "mx_quantize_both": quantize_both,
    "mx_dequantize": dequantize,
}


def register() -> None:
    """Add these kernels to the registry."""
    for op, run in _RUNS.items():
        kernels.register(Kernel(f"cuda {op}", op, _takes, run))
