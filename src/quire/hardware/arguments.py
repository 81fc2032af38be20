"""What the arguments of `emit`, `synthesize` and `DesignCosts` may be, in one table; the layers of
lanes, the top's name and the target depend on more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from numbers import Real
from typing import Any

from torch import Tensor
from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.precision.cast import cast

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is legal, and what to give instead of one that is not."""


def check(**given: object) -> None:
    """HardwareError for the first argument that is not legal, with what would be."""
    for name, value in given.items():
        for is_legal, legal in RULES[name]:
            if not is_legal(value):
                raise HardwareError(f"{name}={_shown(value)}: give {legal}")


def _shown(value: object) -> str:
    plain = value is None or isinstance(value, str | Real)
    return repr(value) if plain else f"<{type(value).__name__}>"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _integer(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and isinstance(value, int) and value >= least


def _optional(rule: Rule) -> tuple[Rule, ...]:
    is_legal, legal = rule
    return ((lambda value: value is None or is_legal(value), f"{legal}, or None"),)


def _has_casts(q: GraphModule) -> bool:
    return any(node.target is cast for node in q.graph.nodes)


def _tensors(value: Any) -> bool:
    each = value if isinstance(value, tuple | list) else [value]
    return all(isinstance(x, Tensor) for x in each)


def _lanes(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, str) and value in ("auto", "unroll"))


def _data(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


_BUDGET: Rule = (_integer(0), "a whole number, 0 or more")

RULES: dict[str, tuple[Rule, ...]] = {
    "q": (
        (lambda q: isinstance(q, GraphModule), "the graph that quire.quantize(graph, plan) makes"),
        (
            _has_casts,
            "a graph with formats, as quire.quantize(graph, plan) makes it; this has none",
        ),
    ),
    "path": ((lambda path: isinstance(path, str | os.PathLike), "a folder"),),
    "rate": _optional((_positive, "samples a second, above 0 and finite")),
    "clock": ((_positive, "Hz, above 0 and finite"),),
    **dict.fromkeys(("dsp", "lut", "bram"), _optional(_BUDGET)),
    "name": ((lambda name: isinstance(name, str), "the name of the top module, a str"),),
    "rom": (((lambda rom: rom in ("auto", "block", "logic")), "'auto', 'block' or 'logic'"),),
    "max_accumulator": ((_integer(1), "bits, a whole number of 1 or more"),),
    "lanes": ((_lanes, "'auto', 'unroll' or {layer: (M_in, M_out) or 'unroll'}"),),
    "calibration": (
        (
            _data,
            "a batch (a tensor, a tuple of inputs, or a dict of them by name), or an iterable of "
            "batches",
        ),
    ),
    "levels": ((_integer(1), "adders between two registers, a whole number of 1 or more"),),
    "place": ((lambda place: isinstance(place, bool), "True or False"),),
    "liberty": _optional((lambda x: isinstance(x, str | os.PathLike), "the path of a .lib file")),
    "clock_mhz": ((_positive, "MHz, above 0 and finite"),),
    "seed": ((_integer(0), "a whole number, 0 or more"),),
    "timeout": _optional((_positive, "seconds, above 0 and finite")),
    "vectors": _optional((_tensors, "a tensor (samples, *shape) for each input")),
}
"""{argument: what it has to be}"""
