"""The MXInt kernels on a GPU, against cuBLAS, humming-kernels and a copy, all in one run.

Linear layers: random data, CUDA graphs, copies of the weight that together are larger than three
times the L2, medians. "bf16" is torch's own linear; "humming int8" and "humming int4" have E8M0
scales in groups of 32, and are left out where humming-kernels is not installed; "mxint8" and
"mxint4" run through the ops, by the kernel that the table names. Each product is compared with
float64 before it is timed. Casts: the share of a copy's bandwidth, bytes moved counted.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import RESULTS, machine, record

from quire.software import bench
from quire.software.bench import Held, Limits, Product
from quire.software.kernels import case_of, select
from quire.software.kernels.cuda import cast
from quire.software.mx.layout import format_of
from quire.software.mx.ops import mx_dequantize, mx_quantize

FORMATS = ("mxint8", "mxint4")
PEERS = {"humming int8": "int8", "humming int4": "int4"}
SQUARE, WIDE, LARGE, TALL = (4096, 4096), (14336, 4096), (8192, 8192), (4096, 14336)
ANCHORS = [Product(m, *s) for s in (SQUARE, WIDE, LARGE) for m in (1, 16, 64, 256, 1024, 4096)]
MORE = [Product(8, *s) for s in (SQUARE, WIDE, LARGE)] + [Product(m, *TALL) for m in (1, 8, 16)]
CAST_SIDE, CAST_FORMATS = 8192, ("mxint8", "mxint6", "mxint4", "mxfp8_e4m3", "mxfp4")
# Of a product of N(0, 1) and N(0, 0.02): the noise of 8 and 4 bits, twice over.
PEER_ERROR = {"humming int8": 0.02, "humming int4": 0.3}


class Goal(NamedTuple):
    """Rows of the linear table with the least and the hoped for speed-up over bf16."""

    shapes: tuple[tuple[int, int], ...]
    ms: tuple[int, ...]
    must: dict[str, float]
    aim: dict[str, float]


def _goal(shapes: Any, ms: Any, must: Any, aim: Any) -> Goal:
    return Goal(shapes, ms, *(dict(zip(FORMATS, pair, strict=True)) for pair in (must, aim)))


GOALS = (
    _goal((LARGE, WIDE, TALL), (1, 8), (1.65, 2.5), (2.0, 3.2)),
    _goal((LARGE, WIDE, TALL), (16,), (1.5, 2.2), (1.75, 2.9)),
    _goal((SQUARE,), (1, 8, 16), (1.65, 2.3), (2.0, 3.0)),
    _goal((SQUARE, WIDE, LARGE), (64,), (1.35, 1.8), (1.6, 2.3)),
    _goal((SQUARE, WIDE, LARGE), (256,), (0.95, 0.95), (1.05, 1.05)),
    _goal((SQUARE, WIDE, LARGE), (1024, 4096), (0.93, 0.93), (1.0, 1.0)),
)


def humming_layer(dtype: str, n: int, k: int) -> torch.nn.Module:
    """A layer of humming-kernels with a random weight, ready to run."""
    from humming.layer import HummingLayer

    config = {"dtype": dtype, "group_size": 32, "scale_dtype": "float8e8m0"}
    layer = HummingLayer(
        shape_n=n, shape_k=k, weight_config=config, torch_dtype=torch.bfloat16
    ).cuda()
    layer.load_from_unquantized((bench.random(n, k, seed=1) * 0.02).contiguous())
    layer.transform()
    return layer


def time_humming(layer: torch.nn.Module, product: Product) -> float:
    x = bench.random(product.m, product.k)
    size = sum(t.nbytes for t in layer.parameters())
    layers = [copy.deepcopy(layer) for _ in range(bench.copies(size, x.device))]
    return bench.microseconds([partial(each, x) for each in layers])


def humming_error(layer: torch.nn.Module, product: Product) -> float:
    """The error of a product over its size, rounding of the weight included."""
    x, w = bench.random(product.m, product.k), bench.random(product.n, product.k, seed=1) * 0.02
    exact = x.float() @ w.float().T
    return ((layer(x).float() - exact).norm() / exact.norm()).item()


class Weights:
    """The weights of one (n, k): made when first asked for, shared by all m."""

    def __init__(self, n: int, k: int, peers: Iterable[str]) -> None:
        self.held: dict[str, Held] = {f: bench.held_weight(f, n, k) for f in FORMATS}
        self.peers = {name: humming_layer(PEERS[name], n, k) for name in peers}

    def builds(self, product: Product) -> list[Callable[[], object]]:
        """What has to run once so that every kernel of a product is built."""
        x = bench.random(product.m, product.k)
        ours = [partial(bench.run_held, x, held, held.weight) for held in self.held.values()]
        return [*ours, *(partial(layer, x) for layer in self.peers.values())]

    def check(self, product: Product) -> dict[str, float]:
        """Errors by name; Quire's in units of what fp32 sums and one rounding may leave."""
        errors = {f: bench.worst_error(held, product.m) for f, held in self.held.items()}
        errors |= {name: humming_error(layer, product) for name, layer in self.peers.items()}
        wrong = {n: e for n, e in errors.items() if not e <= PEER_ERROR.get(n, 1.0)}
        if wrong:
            raise SystemExit(f"{product}: wrong results, {wrong}")
        return errors

    def times(self, product: Product) -> dict[str, float]:
        found = {"bf16": bench.time_bfloat16(product)}
        found |= {name: time_humming(layer, product) for name, layer in self.peers.items()}
        return found | {f: bench.time_linear(held, product.m) for f, held in self.held.items()}


def kernel_name(held: Held, product: Product) -> str:
    case = case_of(torch.device("cuda"), held.format, *product, torch.bfloat16)
    kernel = select("mx_linear", case, held.layout)
    return kernel.name if kernel else "none"


def linear_row(weights: Weights, product: Product, limits: Limits) -> dict[str, Any]:
    """One row of the table: microseconds of each, floors, and errors."""
    errors = weights.check(product)
    sizes = {f: bench.weight_bytes(format_of(f), product.n, product.k) for f in FORMATS}
    return {
        "n": product.n,
        "k": product.k,
        "m": product.m,
        "microseconds": {name: round(t, 2) for name, t in weights.times(product).items()},
        "floor": {f: round(limits.microseconds(product, sizes[f]), 2) for f in FORMATS},
        "kernel": {f: kernel_name(held, product) for f, held in weights.held.items()},
        "error": {name: float(f"{e:.3g}") for name, e in errors.items()},
    }


def linear_rows(products: list[Product], limits: Limits, peers: list[str]) -> list[dict[str, Any]]:
    shapes = dict.fromkeys((p.n, p.k) for p in products)
    weights = {shape: Weights(*shape, peers) for shape in shapes}
    start = time.perf_counter()
    failed = bench.prepare(build for p in products for build in weights[p.n, p.k].builds(p))
    print(f"built in {time.perf_counter() - start:.0f} s", *failed, sep="\n", flush=True)
    rows = []
    for product in products:
        rows.append(linear_row(weights[product.n, product.k], product, limits))
        print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row as text: microseconds (the speed-up over bf16, the share of the floor)."""
    times, floor = row["microseconds"], row["floor"]
    parts = [f"{row['n']}x{row['k']:<6} M={row['m']:<5} bf16 {times['bf16']:7.1f}"]
    parts += [f"{name} {times[name]:7.1f}" for name in PEERS if name in times]
    parts += [
        f"{f} {times[f]:7.1f} ({times['bf16'] / times[f]:.2f}x, {floor[f] / times[f]:4.0%})"
        for f in FORMATS
    ]
    return "  ".join(parts)


def geometric_mean(ratios: Iterable[float]) -> float:
    return round(statistics.geometric_mean(ratios), 3)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the rows of the anchors that ran: geometric means and the worst row of each ratio."""
    anchors = [r for r in rows if Product(r["m"], r["n"], r["k"]) in ANCHORS]
    found: dict[str, Any] = {"rows": len(anchors)}
    for fmt, peer in zip(FORMATS, PEERS, strict=True):
        for other in ("bf16", peer):
            ratios = [
                r["microseconds"][other] / r["microseconds"][fmt]
                for r in anchors
                if other in r["microseconds"]
            ]
            if ratios:
                worst = round(min(ratios), 3)
                found[f"{fmt} against {other}"] = {"mean": geometric_mean(ratios), "worst": worst}
    return found


def against_goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst speed-up over bf16 of each group of rows, beside what it must and should be."""
    found = []
    for goal, fmt in ((g, f) for g in GOALS for f in FORMATS):
        ratios = {
            str(Product(r["m"], r["n"], r["k"])): r["microseconds"]["bf16"] / r["microseconds"][fmt]
            for r in rows
            if (r["n"], r["k"]) in goal.shapes and r["m"] in goal.ms
        }
        if ratios:
            worst = min(ratios, key=lambda name: ratios[name])
            case = {"format": fmt, "m": list(goal.ms), "rows": len(ratios), "at": worst}
            bounds = {"must": goal.must[fmt], "aim": goal.aim[fmt]}
            found.append({**case, **bounds, "worst": round(ratios[worst], 3)})
    return found


def cast_rows(side: int) -> dict[str, Any]:
    """Each cast's share of a copy's bandwidth in bf16, and the bytes that differ from the CPU's."""
    xs = [bench.random(side, side, seed=seed) for seed in range(3)]
    copying = bench.microseconds([x.clone for x in xs], keep=True)
    bandwidth = 2 * xs[0].nbytes / copying  # bytes in a microsecond
    rows = {"copy": {"TB/s": round(bandwidth / 1e6, 3), "microseconds": round(copying, 2)}}
    for name in CAST_FORMATS:
        for op, (runs, moved) in cast_runs(name, xs).items():
            taken = bench.microseconds(runs, keep=True)
            share = round(moved / taken / bandwidth, 3)
            rows[f"{op} {name}"] = {"share": share, "microseconds": round(taken, 2)}
            print(f"{op} {name}: {taken:.1f} us, {share:.1%} of a copy", flush=True)
        rows[f"{name}: differing"] = {"bytes": differing(name)}
    return rows


def build_casts() -> None:
    """Build the casts of every format, in parallel."""
    x = bench.random(64, 64)
    builds = [partial(cast.quantize_both, x, format_of(name)) for name in CAST_FORMATS]
    print(*bench.prepare(builds), sep="\n", flush=True)


def cast_runs(name: str, xs: list[torch.Tensor]) -> dict[str, tuple[list[Any], int]]:
    """{op: (its runs, bytes that one moves)}."""
    fmt, side = format_of(name), xs[0].shape[1]
    plains = [mx_quantize(x, name) for x in xs]
    codes = sum(t.nbytes for t in plains[0])
    back = [partial(mx_dequantize, *plain, name, side, torch.bfloat16) for plain in plains]
    return {
        "quantize": ([partial(mx_quantize, x, name) for x in xs], xs[0].nbytes + codes),
        "dequantize": (back, xs[0].nbytes + codes),
        "both axes": ([partial(cast.quantize_both, x, fmt) for x in xs], xs[0].nbytes + 2 * codes),
    }


def differing(name: str) -> int:
    """Bytes of codes, scales and values on the GPU that differ from those of the CPU."""
    fmt, shape = format_of(name), (256, 1056)
    x = bench.random(*shape, seed=3) * torch.exp2(bench.random(shape[0], 1, seed=4) * 20)
    x[0, :40] *= 2.0**-130
    found = cast.quantize_both(x, fmt)
    on_cpu = mx_quantize(x.cpu(), name), mx_quantize(x.T.contiguous().cpu(), name)
    expected = [t for plain in on_cpu for t in plain]
    expected.append(mx_dequantize(*on_cpu[0], name, shape[1], x.dtype))
    found = [*found, mx_dequantize(*found[:2], name, shape[1], x.dtype)]
    pairs = zip(found, expected, strict=True)
    return sum(int((a.cpu().view(torch.uint8) != b.view(torch.uint8)).sum()) for a, b in pairs)


def selected(patterns: list[str]) -> list[Product]:
    named = [p for p in ANCHORS + MORE if any(fnmatch.fnmatch(str(p), each) for each in patterns)]
    return sorted(named, key=lambda p: (p.n, p.k, p.m))


def print_summary(figures: dict[str, Any]) -> None:
    print(f"\n{machine()}: microseconds (times bf16, share of the floor)")
    for row in figures["linear"]:
        print(line(row))
    for name, found in figures["summary"].items():
        print(f"{name}: {found}")
    for goal in figures["goals"]:
        state = "ok   " if goal["worst"] >= goal["must"] else "SHORT"
        print(state, *(f"{k} {v}" for k, v in goal.items()))
    for name, row in figures["casts"].items():
        print(name, row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", nargs="*", default=["*"], help="such as '8192x8192 M=1' or '* M=16'"
    )
    parser.add_argument("--no-casts", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("mx_kernels: needs a CUDA device, nothing measured")
        return
    device, start = bench.needs_cuda(), time.perf_counter()
    peers = list(PEERS) if find_spec("humming") and not options.no_peer else []
    limits = bench.limits(device)
    build_casts()
    figures = {
        "humming-kernels": version("humming-kernels") if peers else None,
        "limits": {"TB/s": limits.bandwidth / 1e12, "TFLOP/s": limits.arithmetic / 1e12},
        "casts": {} if options.no_casts else cast_rows(CAST_SIDE),
        "linear": linear_rows(selected(options.rows), limits, peers),
    }
    figures["summary"] = summary(figures["linear"])
    figures["goals"] = against_goals(figures["linear"])
    figures["seconds"] = round(time.perf_counter() - start)
    record("mx_kernels", figures, options.out)
    print_summary(figures)


if __name__ == "__main__":
    sys.exit(main())
