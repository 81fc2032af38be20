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


def compiled(fmt: Format, axis: int, tuned: bool = False) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    options = {"coordinate_descent_tuning": True} if tuned else None
    return torch.compile(lambda x: fmt.quantize(x, axis), fullgraph=True, options=options)


LAYOUTS = ("last", "axis 0", "ragged")


def shape_and_axis(layout: str, size: int) -> tuple[tuple[int, int], int]:
    """What a layout means: blocks along the last axis or the first, or a short block a row."""
    return (size, size - (layout == "ragged")), 0 if layout == "axis 0" else -1


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


def on_cpu(size: int, repeats: int, names: list[str], layouts: list[str]) -> list[dict[str, Any]]:
    """Compiled quantization in units of a copy, for each layout."""
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for name in names:
        fmt, row = parse(name), {"format": name}
        for layout in layouts:
            shape, axis = shape_and_axis(layout, size)
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            ready, quantize = torch.empty_like(x), compiled(fmt, axis)
            assert torch.equal(quantize(x), fmt.quantize(x, axis)), f"{name}: compiled differs"
            runs = {"copy": partial(ready.copy_, x), "quantize": partial(quantize, x)}
            times = in_turns(runs, repeats, seconds_on_cpu)
            row[layout] = round(times["quantize"] / times["copy"], 2)
        print(row, flush=True)
        rows.append(row)
    return rows


def gpu_figures(
    fmt: Format, x: Tensor, axis: int, repeats: int, tuned: bool
) -> tuple[int, float, float]:
    """Values that differ from the eager ones on the same device, the share of the copy bandwidth
    that quantization reaches, and the copy's TB/s.

    That the eager ones have the bits of a CPU is tests/conformance/test_formats_cuda.py.
    """
    ready, quantize = torch.empty_like(x), compiled(fmt, axis, tuned)
    differing = int((quantize(x) != fmt.quantize(x, axis)).sum())
    runs = {"copy": partial(ready.copy_, x), "quantize": partial(quantize, x)}
    times = in_turns({k: graphed(run) for k, run in runs.items()}, repeats, seconds_on_gpu)
    speed = 2 * x.numel() * x.element_size() / times["copy"] / 1e12
    return differing, round(times["copy"] / times["quantize"], 3), round(speed, 2)


def on_gpu(
    size: int, repeats: int, names: list[str], layouts: list[str], dtypes: list[str], tuned: bool
) -> list[dict[str, Any]]:
    """The share of the copy bandwidth that compiled quantization reaches, and its wrong bits."""
    rows: list[dict[str, Any]] = []
    for name, dtype in itertools.product(names, dtypes):
        row: dict[str, Any] = {"format": name, "dtype": dtype, "tuned": tuned}
        for layout in layouts:
            shape, axis = shape_and_axis(layout, size)
            generator = torch.Generator("cuda").manual_seed(0)
            x = torch.randn(shape, generator=generator, device="cuda").to(getattr(torch, dtype))
            figures = gpu_figures(parse(name), x, axis, repeats, tuned)
            row[f"{layout}: differing"], row[layout], row["copy, TB/s"] = figures
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="on a GPU")
    parser.add_argument("--tuned", action="store_true", help="coordinate_descent_tuning, on a GPU")
    parser.add_argument("--name", default="formats", help="of the result")
    parser.add_argument("--size", type=int, help="rows and columns (4096 on a CPU, 8192 on a GPU)")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    names, layouts = options.formats, options.layouts
    if torch.cuda.is_available():
        size, tuned = options.size or 8192, options.tuned
        rows = on_gpu(size, options.repeats, names, layouts, options.dtypes, tuned)
        figures = {"share of copy bandwidth": rows}
    else:
        torch.set_num_threads(2)
        size = options.size or 4096
        eager = eager_on_cpu(size, names)
        rows = on_cpu(size, options.repeats, names, layouts)
        figures = {"times a copy": rows, "eager, times a clone": eager}
    record(options.name, figures, options.out)


if __name__ == "__main__":
    main()
