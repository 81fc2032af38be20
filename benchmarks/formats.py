"""Fake quantization against a copy: compiled on this machine's CPU or GPU, and eager.

The limit is memory: one read and one write of the tensor, which is what `copy_` into a ready
tensor does. Each figure is the median of quantize over the median of the copy, taken in turns. On
a CPU freed memory is kept by the allocator, so that outputs are ready memory too.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record
from torch import Tensor

from quire.formats import Format, parse

FORMATS = [
    "fixed(8,4)",
    "ufixed(8,4)",
    "minifloat(e=4,m=3)",
    "fp8_e4m3",
    "dmf(e=4,m=3)",
    "log(8)",
    "binary",
    "ternary",
    "mxint8",
    "mxint4",
    "bfp(8)",
    "int8",
    "int4_g128",
    "uint4_g128",
    "bm(e=2,m=1)",
    "mxfp8_e4m3",
    "mxfp6_e2m3",
    "mxfp4",
    "bl(4)",
    "nvfp4",
    "nf4",
]


def keep_freed_memory() -> None:
    """Make glibc serve large blocks from its heap and never give the heap back."""
    libc = ctypes.CDLL("libc.so.6")
    mmap_threshold, trim_threshold = -3, -1
    libc.mallopt(mmap_threshold, 2**30)
    libc.mallopt(trim_threshold, 2**31 - 1)


def seconds_on_cpu(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def seconds_on_gpu(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def graphed(run: Callable[[], object]) -> Callable[[], object]:
    """Capture a run in a CUDA graph, so that no launch from the host is timed."""
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def in_turns(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[..., float]
) -> dict[str, float]:
    """The median time of each run in seconds, all taken in turns after two warm-ups."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats + 2):
        for name, run in runs.items():
            elapsed = clock(run)
            if i >= 2:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def compiled(fmt: Format, axis: int) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    return torch.compile(lambda x: fmt.quantize(x, axis), fullgraph=True)


def cases(size: int) -> dict[str, tuple[tuple[int, int], int]]:
    """Shape and axis of each layout that is timed."""
    square = (size, size)
    return {"last": (square, -1), "axis 0": (square, 0), "ragged": ((size, size - 1), -1)}


def eager_on_cpu(size: int, names: list[str]) -> dict[str, float]:
    """Eager quantization in units of a clone, both with fresh memory."""
    x = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    ratios = {}
    for name in names:
        fmt = parse(name)
        runs = {"clone": x.clone, "eager": partial(fmt.quantize, x)}
        times = in_turns(runs, 5, seconds_on_cpu)
        ratios[name] = round(times["eager"] / times["clone"], 1)
        print(name, ratios[name], flush=True)
    return ratios


def on_cpu(size: int, repeats: int, names: list[str]) -> list[dict[str, Any]]:
    """Compiled quantization in units of a copy, for each layout."""
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for name in names:
        fmt, row = parse(name), {"format": name}
        for layout, (shape, axis) in cases(size).items():
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            ready, quantize = torch.empty_like(x), compiled(fmt, axis)
            assert torch.equal(quantize(x), fmt.quantize(x, axis)), f"{name}: compiled differs"
            runs = {"copy": partial(ready.copy_, x), "quantize": partial(quantize, x)}
            times = in_turns(runs, repeats, seconds_on_cpu)
            row[layout] = round(times["quantize"] / times["copy"], 2)
        print(row, flush=True)
        rows.append(row)
    return rows


def on_gpu(size: int, repeats: int, names: list[str]) -> list[dict[str, Any]]:
    """The share of the copy bandwidth that compiled quantization reaches, and its wrong bits."""
    rows: list[dict[str, Any]] = []
    for name, dtype in itertools.product(names, (torch.float32, torch.bfloat16)):
        fmt = parse(name)
        row: dict[str, Any] = {"format": name, "dtype": str(dtype).removeprefix("torch.")}
        for layout, (shape, axis) in cases(size).items():
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
            expected, x = fmt.quantize(x, axis), x.cuda()
            ready, quantize = torch.empty_like(x), compiled(fmt, axis)
            row[f"{layout}: differing"] = int((quantize(x).cpu() != expected).sum())
            runs = {"copy": partial(ready.copy_, x), "quantize": partial(quantize, x)}
            times = in_turns({k: graphed(run) for k, run in runs.items()}, repeats, seconds_on_gpu)
            row[layout] = round(times["copy"] / times["quantize"], 3)
            bytes_moved = 2 * x.numel() * x.element_size()
            row["copy, TB/s"] = round(bytes_moved / times["copy"] / 1e12, 2)
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--size", type=int, help="rows and columns (4096 on a CPU, 8192 on a GPU)")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    if torch.cuda.is_available():
        rows = on_gpu(options.size or 8192, options.repeats, options.formats)
        record("formats", {"share of copy bandwidth": rows}, options.out)
    else:
        torch.set_num_threads(2)
        size = options.size or 4096
        eager = eager_on_cpu(size, options.formats)
        rows = on_cpu(size, options.repeats, options.formats)
        record("formats", {"times a copy": rows, "eager, times a clone": eager}, options.out)


if __name__ == "__main__":
    main()
