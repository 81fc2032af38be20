"""Settings: what a plan says of an op besides the formats of its edges, for its exact meaning.

The format of a table inside an op is the entry of a site of its own. Another number is an option
of a named correction in the entry of the op's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quire.graph.sites import Site
from quire.ops.norm import LAYER_NORM, RMS_NORM
from quire.precision.entry import Entry

SETTINGS = "quire_settings"
"""The key of a node's meta under which `quantize` leaves them: {keyword of `Op.exact`: value}."""


@dataclass(frozen=True)
class Correction:
    """A correction that an entry can name.

    ops: the names of the ops at whose input it may stand.
    options: {option: (the keyword of `Op.exact` that takes it, lowest, highest integer)}.
    """

    ops: tuple[str, ...]
    options: Mapping[str, tuple[str, int, int]]


CORRECTIONS = {
    # b of docs/numerics.md, "LayerNorm"; above 32 bits the product with d_i may not fit float64.
    "root": Correction((LAYER_NORM.name, RMS_NORM.name), {"bits": ("root_bits", 1, 32)}),
}


def settings(site: Site, entry: Entry) -> dict[str, Any]:
    """{keyword of `Op.exact`: value} that the entry of a site gives the op."""
    tables = {site.operand: entry.format} if site.role == "table" else {}
    return tables | {
        CORRECTIONS[name].options[option][0]: value
        for name, options in entry.corrections.items()
        for option, value in options.items()
    }


def correction_problem(site: Site, entry: Entry) -> str | None:
    """What is wrong with the corrections of an entry, as the end of a sentence, or None."""
    for name, options in entry.corrections.items():
        known = CORRECTIONS.get(name)
        if known is None or site.arg != 0 or site.op not in known.ops:
            return f"has no correction {name!r}; {_legal(site)}"
        for option, value in options.items():
            if option not in known.options:
                return f"has no option {option!r} of {name!r}; {_legal(site)}"
            _, low, high = known.options[option]
            if type(value) is not int or not low <= value <= high:
                return f"has {name}.{option}={value!r}, which is no integer from {low} to {high}"
    return None


def _legal(site: Site) -> str:
    legal = [
        f"{name!r} with {', '.join(map(repr, c.options))}"
        for name, c in CORRECTIONS.items()
        if site.arg == 0 and site.op in c.ops
    ]
    return f"legal here: {', '.join(legal) or 'none'}"
