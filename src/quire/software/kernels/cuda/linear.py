"""The CUDA kernels of `mx_linear`: their configurations, and their launch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.errors import KernelError
from quire.formats import Block, Fixed, Scalar
from quire.software.kernels import Weight
from quire.software.kernels.cuda.build import build, load
from quire.software.kernels.cuda.layout import tiled_shape
from quire.software.mx.layout import block_size

ELEMENTS: dict[Scalar, str] = {Fixed(8, 6): "MxInt8", Fixed(6, 4): "MxInt6", Fixed(4, 2): "MxInt4"}
HOPPER = (9, 0)
ARCHITECTURES = {(8, 0): "80", (8, 6): "86", (8, 9): "89", (9, 0): "90a"}


@dataclass(frozen=True)
class Config:
    """One configuration of a kernel, built by itself; its fields are macros of the source.

    tokens: rows of x of a block of threads. stages: buffers between memory and the multipliers.
    splits: blocks that share K (a cluster, 1 to 8). resident: blocks that shall fit a
    multiprocessor at once, which bounds registers.
    """

    source: ClassVar[str]
    name: ClassVar[str]
    needs_hopper: ClassVar[bool] = False

    tokens: int
    stages: int
    splits: int = 1
    resident: int = 1

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}{value}" for key, value in asdict(self).items())])

    def runs_on(self, capability: tuple[int, int] | None) -> bool:
        """Whether a device of a compute capability takes this configuration."""
        return capability == HOPPER or (not self.needs_hopper and self.splits == 1)

    def defines(self, format: Block, capability: tuple[int, int]) -> dict[str, object]:
        """The macros with which the source is built for a format and a compute capability."""
        own = {f"QUIRE_{key.upper()}": value for key, value in asdict(self).items()}
        element = ELEMENTS[format.element]
        more = {"QUIRE_ELEMENT": element, "QUIRE_BLOCK": block_size(format)}
        return {**own, **more, "QUIRE_HOPPER": int(capability == HOPPER)}


@dataclass(frozen=True)
class Warps(Config):
    """`mx_linear_warp.cu`: each warp streams its share of K (tokens: 8, 16 or 32).

    warps: that share K. tiles: of 64 rows of w.
    """

    source = "mx_linear_warp.cu"
    name = "warp"

    warps: int = 8
    tiles: int = 1


@dataclass(frozen=True)
class Warpgroups(Config):
    """`mx_linear_sm90.cu`: wgmma on Hopper (tokens: 8, or a multiple of 16 up to 256).

    groups: warpgroups that multiply, each 64 rows of w. chunks: of 64 along K in a stage, 1 or 2.
    shares: blocks of a cluster that each load a part of x for all of them.
    """

    source = "mx_linear_sm90.cu"
    name = "wgmma"
    needs_hopper = True

    groups: int = 1
    chunks: int = 2
    shares: int = 1


@cache
def launcher(config: Config, format: Block, capability: tuple[int, int]) -> Callable[..., int]:
    """The C function of a configuration, built if need be."""
    macros = config.defines(format, capability)
    function = load(build(config.source, macros, ARCHITECTURES[capability])).quire_mx_linear
    pointers, sizes = [ctypes.c_void_p] * 6, [ctypes.c_int] * 5
    function.argtypes = [*pointers, *sizes, ctypes.c_void_p]
    return function


def aligned(x: Tensor) -> Tensor:
    """x (m, k), contiguous, with rows at multiples of 16 bytes, as the copy engine reads them."""
    if x.shape[1] % 8 == 0 and x.data_ptr() % 16 == 0:
        return x
    return F.pad(x, (0, -x.shape[1] % 8))


def run(
    config: Config, x: Tensor, weight: Weight, bias: Tensor | None, format: Block, n: int
) -> Tensor:
    """x (m, k) bfloat16 times a tiled weight (n, k), plus bias (n,): (m, n) bfloat16.

    Raises `KernelError` for a weight of another size, beyond which the kernel would read.
    """
    (m, k), padded = x.shape, aligned(x)
    expected, found = tiled_shape(n, k), tuple(weight.codes.shape[:2])
    if found != expected:
        raise KernelError(
            f"{config}: a weight of {n} rows for x {tuple(x.shape)} has {expected} tiles, not"
            f" {found}"
        )
    out = x.new_empty(m, n)
    assert weight.row_scale is not None
    if not m:
        return out
    tensors = (out, padded, weight.codes, weight.scales, weight.row_scale, bias)
    pointers = [None if t is None else t.data_ptr() for t in tensors]
    stream = torch.cuda.current_stream(x.device).cuda_stream
    capability = torch.cuda.get_device_capability(x.device)
    with torch.cuda.device(x.device):
        run_on = launcher(config, format, capability)
        failed = run_on(*pointers, m, n, k, padded.shape[1], 1, stream)
    if failed:
        raise KernelError(f"{config} failed for x {tuple(x.shape)}, n={n}: CUDA error {failed}")
    return out
