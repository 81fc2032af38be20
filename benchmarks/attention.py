"""Attention with casts on query, key, probabilities and value: one kernel against the open form.

Beside it stand the open form compiled, and scaled_dot_product_attention in bfloat16 without casts,
which is the limit. Times are medians of calls between CUDA events; memory is what a call allocates
at its peak besides its inputs. Runs on a CUDA device, in under a minute.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import RESULTS, record
from torch import Tensor

from quire.software.attention import fused_attention, opened

FORMATS = ("mxint8",) * 4
CALLS = 20


class Case(NamedTuple):
    """What is attended to: queries of `heads`, keys of as many."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    depth: int
    is_causal: bool


CASES = (
    Case("prefill 1024", 8, 16, 1024, 1024, 64, False),
    Case("prefill 2048, causal", 1, 32, 2048, 2048, 128, True),
    Case("prefill 4096, causal", 1, 32, 4096, 4096, 128, True),
    Case("decode 4096", 8, 32, 1, 4096, 128, False),
)


def ways(case: Case) -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """The functions of query, key and value that are compared."""
    scale = case.depth**-0.5

    def open_form(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return opened(query, key, value, None, FORMATS, scale, case.is_causal)

    def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return fused_attention(query, key, value, formats=FORMATS, is_causal=case.is_causal)

    def without_casts(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=case.is_causal
        )

    return {
        "open": open_form,
        "open, compiled": torch.compile(open_form, dynamic=False),
        "fused": fused,
        "sdpa without casts": without_casts,
    }


def measure(call: Callable[[], Tensor]) -> dict[str, float]:
    """Median microseconds and peak megabytes of a call, after two that are not counted."""
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(CALLS)]
    for start, end in marks:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    microseconds = statistics.median(start.elapsed_time(end) * 1e3 for start, end in marks)
    return {"microseconds": round(microseconds, 1), "peak_megabytes": round(peak / 1e6, 1)}


def difference(case: Case, given: tuple[Tensor, ...], found: Tensor) -> float:
    """How far the first head is from the open form in float64, over its largest value."""
    first = (t[:1, :1].double() for t in given)
    expected = opened(*first, None, FORMATS, case.depth**-0.5, case.is_causal)
    return float((found[:1, :1].double() - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def run(case: Case) -> dict[str, Any]:
    """The figures of one case."""
    torch.manual_seed(0)
    lengths = (case.queries, case.keys, case.keys)
    shapes = ((case.batch, case.heads, length, case.depth) for length in lengths)
    query, key, value = given = tuple(
        torch.randn(s, device="cuda", dtype=torch.bfloat16) for s in shapes
    )
    torch.compiler.reset()
    functions = ways(case)
    found = {name: measure(lambda f=f: f(query, key, value)) for name, f in functions.items()}
    fused, open_form = found["fused"], found["open, compiled"]
    return {
        **case._asdict(),
        "formats": FORMATS,
        **found,
        "fused over open, compiled": {
            unit: round(open_form[unit] / max(fused[unit], 1e-9), 2) for unit in fused
        },
        "relative difference from float64": difference(case, given, functions["fused"](*given)),
    }


def main() -> None:
    """Measure every case and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("attention: needs a CUDA device, nothing measured")
        return
    record("attention", [run(case) for case in CASES], arguments.output)


if __name__ == "__main__":
    main()
