"""Measuring kernels on a CUDA device: by graph replay, with weights that no cache holds.

A run is captured many times over in one CUDA graph, so that no launch from the host is timed, each
time with another copy of its weight, so that the weight comes from memory as in a network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.errors import KernelError
from quire.formats import Block
from quire.software.kernels import (
    KERNELS,
    PLAIN,
    Case,
    Kernel,
    Weight,
    case_of,
    load_providers,
    select_layout,
)
from quire.software.mx.layout import format_of, row_blocks, row_bytes
from quire.software.mx.ops import mx_linear, mx_linear_tiled, mx_quantize

Run = Callable[[], Any]

REPLAYS, WARM_UP = 15, 2
LAUNCHES = 24  # of runs in one graph, about
CACHES = 3  # the copies of a weight are together larger than so many times the L2
CHECKED = 1 << 26  # values of a weight that are checked at once, in float64


class Product(NamedTuple):
    """A linear layer: x (m, k) times the transposed weight (n, k)."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.n}x{self.k} M={self.m}"

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.n * self.k

    def bytes(self, weight: int) -> int:
        """Bytes that are read and written at least; x and out in 16 bits."""
        return weight + 2 * (self.m * self.k + self.m * self.n)


@dataclass(frozen=True)
class Limits:
    """What a device can do: bytes a second of a copy, operations a second of a bf16 product."""

    bandwidth: float
    arithmetic: float

    def microseconds(self, product: Product, weight: int) -> float:
        """The least time of a product whose weight takes so many bytes."""
        moving = product.bytes(weight) / self.bandwidth
        return 1e6 * max(moving, product.operations / self.arithmetic)


# Measured on random data: a copy of 8.6 GB, a product of 8192 x 8192 x 8192.
KNOWN = {"NVIDIA H200": Limits(4.3e12, 790e12)}


def limits(device: torch.device) -> Limits:
    """The limits of a device, measured where they are not known."""
    name = torch.cuda.get_device_name(device)
    return KNOWN.get(name) or measured_limits(device)


def measured_limits(device: torch.device) -> Limits:
    """The limits of a device: of a copy of 512 MB, and of a product of 8192 x 8192 x 8192."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    large = torch.empty(2**28, device=device, dtype=torch.bfloat16)
    copying = microseconds([partial(torch.empty_like(large).copy_, large)])
    multiplying = microseconds([partial(torch.matmul, a, b)])
    return Limits(4e6 * large.numel() / copying, 2e6 * 8192**3 / multiplying)


def microseconds(runs: Sequence[Run], *, keep: bool = False, replays: int = REPLAYS) -> float:
    """The median time of a run in microseconds; the runs are captured one after the other.

    keep: give each result memory of its own, so that none is overwritten while in the cache.
    """
    launches = list(runs) * max(1, LAUNCHES // len(runs))
    graph = captured(launches, keep)
    for _ in range(WARM_UP):
        graph.replay()
    return statistics.median(_elapsed(graph.replay) for _ in range(replays)) / len(launches)


def captured(runs: Sequence[Run], keep: bool) -> torch.cuda.CUDAGraph:
    """A CUDA graph of some runs, the first of which runs before, so that kernels are built."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        runs[0]()
    torch.cuda.synchronize()
    graph, kept = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        for run in runs:
            result = run()
            if keep:
                kept.append(result)
    return graph


def _elapsed(run: Run) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3


def copies(size: int, device: torch.device) -> int:
    """How many copies of `size` bytes are larger than three times the L2."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(2, -(-CACHES * cache // size) + 1)


def weight_bytes(format: Block, n: int, k: int) -> int:
    """Bytes of a weight (n, k) in codes and scales."""
    return n * (row_bytes(format, k) + row_blocks(format, k))


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """N(0, 1) on the CUDA device, from a seed."""
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, device="cuda", generator=generator).to(dtype)


class Held(NamedTuple):
    """A random weight (n, k) of a format as the device holds it: in which layout, and plain."""

    layout: str
    weight: Weight
    plain: Weight
    format: Block
    n: int
    k: int


def held_weight(format: str, n: int, k: int, seed: int = 1) -> Held:
    """A weight N(0, 0.02) in the layout that the device has for products in bf16."""
    fmt = format_of(format)
    plain = Weight(*mx_quantize(random(n, k, seed=seed) * 0.02, format))
    layout = select_layout(case_of(plain.codes.device, fmt, 1, n, k, torch.bfloat16))
    tiled = layout.tile(plain, fmt, k, torch.bfloat16) if layout else None
    if layout is None or tiled is None:
        return Held(PLAIN, plain, plain, fmt, n, k)
    return Held(layout.name, tiled, plain, fmt, n, k)


def run_held(x: Tensor, held: Held, weight: Weight) -> Tensor:
    """The product as a user gets it: through the op, by the kernel that the table says."""
    if held.layout == PLAIN:
        return mx_linear(x, weight.codes, weight.scales, None, str(held.format))
    arguments = (None, str(held.format), held.layout, held.n)
    return mx_linear_tiled(x, *weight, *arguments)


def _clone(weight: Weight) -> Weight:
    scale = weight.row_scale
    return Weight(
        weight.codes.clone(), weight.scales.clone(), None if scale is None else scale.clone()
    )


def time_linear(held: Held, m: int, kernel: Kernel | None = None) -> float:
    """Microseconds of a product; with a kernel, by that one instead of the table's."""
    x = random(m, held.k)
    count = copies(sum(t.nbytes for t in held.weight if t is not None), x.device)
    weights = [_clone(held.weight) for _ in range(count)]
    if kernel is None:
        return microseconds([partial(run_held, x, held, weight) for weight in weights])
    return microseconds(
        [partial(kernel.run, x, weight, None, held.format, held.n) for weight in weights]
    )


def time_bfloat16(product: Product) -> float:
    """Microseconds of torch's own linear in bf16."""
    x, first = random(product.m, product.k), random(product.n, product.k, seed=1)
    weights = [first.clone() for _ in range(copies(first.nbytes, first.device))]
    return microseconds([partial(F.linear, x, weight) for weight in weights])


def worst_error(held: Held, m: int) -> float:
    """The largest error of a product, over what fp32 sums and one rounding may leave (at most 1).

    Against float64 products of the dequantized weight; the output's memory holds NaN before.
    """
    x, found = random(m, held.k, seed=2), None
    for _ in range(2):
        poison = torch.full((m, held.n), torch.nan, device="cuda", dtype=torch.bfloat16)
        del poison
        found = run_held(x, held, held.weight)
    assert found is not None
    rows = max(1, CHECKED // held.k)
    return max(
        _worst_error(x, found[:, start : start + rows], held, start, rows)
        for start in range(0, held.n, rows)
    )


def _worst_error(x: Tensor, found: Tensor, held: Held, start: int, rows: int) -> float:
    part = slice(start, start + rows)
    values = torch.ops.quire.mx_dequantize(
        held.plain.codes[part], held.plain.scales[part], str(held.format), held.k, torch.float32
    ).double()
    exact = x.double() @ values.T
    sums = x.double().abs() @ values.abs().T
    # docs/numerics.md, "Graphs", and half a unit in the last place of the result.
    rounding = 0.5 * torch.finfo(x.dtype).eps * exact.abs() * (1 + 2**-10)
    bound = 2 * (held.k + 2) * 2.0**-24 * sums + rounding + torch.finfo(x.dtype).tiny
    return ((found.double() - exact).abs() / bound).nan_to_num(torch.inf).max().item()


def able(op: str, case: Case, layout: str = PLAIN) -> list[Kernel]:
    """Every kernel that can run a case on a weight in a layout."""
    load_providers()
    return [
        kernel
        for kernel in KERNELS.values()
        if kernel.op == op and kernel.layout == layout and kernel.supports(case)
    ]


def prepare(tasks: Iterable[Run], workers: int = 16) -> list[str]:
    """Run tasks that build kernels in threads of their own; returns what failed, in words."""

    def attempt(task: Run) -> str | None:
        try:
            task()
        except (KernelError, RuntimeError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(workers) as pool:
        return [said for said in pool.map(attempt, tasks) if said]


def needs_cuda() -> torch.device:
    """The CUDA device; raises `KernelError` where there is none."""
    if not torch.cuda.is_available():
        raise KernelError(
            "no CUDA device: kernels are measured on one; torch here is"
            f" {torch.__version__}, built for CUDA {torch.version.cuda}"
        )
    return torch.device("cuda", torch.cuda.current_device())


__all__ = [
    "Held",
    "Limits",
    "Product",
    "able",
    "copies",
    "held_weight",
    "limits",
    "measured_limits",
    "microseconds",
    "needs_cuda",
    "prepare",
    "random",
    "run_held",
    "time_bfloat16",
    "time_linear",
    "weight_bytes",
    "worst_error",
]
