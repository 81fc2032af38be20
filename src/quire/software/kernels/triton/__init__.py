"""The Triton provider: portable kernels, which also run in Triton's interpreter."""

from __future__ import annotations

from quire.software.kernels import Case, Kernel, register
from quire.software.kernels.triton import linear, quantize
from quire.software.mx.layout import supports

OLDEST = (8, 0)
"""Compute capability from which on tensor cores multiply bfloat16 and TF32."""


def _is_able(case: Case) -> bool:
    return case.capability is not None and case.capability >= OLDEST and supports(case.format)


_RUNS = {
    "mx_quantize": quantize.quantize,
    "mx_quantize_both": quantize.quantize_both,
    "mx_dequantize": quantize.dequantize,
    "mx_linear": linear.linear,
}

for _op, _run in _RUNS.items():
    register(Kernel(f"triton {_op}", _op, _is_able, _run))
