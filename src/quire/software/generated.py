"""The kernels that Inductor's code calls, read from the code itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch._inductor.utils import run_and_get_code

_CALL = re.compile(
    r"^\s*(?:\w+ = )?(\w*_fused_\w+|extern_kernels\.\w+|torch\.ops\.[\w.]+)(?:\.run)?\(", re.M
)


def run_and_read(run: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
    """The result of a call that compiles, and the code that Inductor made in it, graph by graph."""
    result, codes = run_and_get_code(run, *args, **kwargs)
    return result, list(codes)


def kernel_calls(codes: Sequence[str]) -> list[str]:
    """The kernels that one call of the code runs, in order: generated ones ("cpp_fused_add_0",
    "triton_poi_fused_gelu_1") and those of libraries ("extern_kernels.addmm")."""
    return [call for code in codes for call in _CALL.findall(_body(code))]


def _body(code: str) -> str:
    """The function that calls the kernels; they are defined before it."""
    _, found, rest = code.partition("def call(")
    return rest if found else ""
