"""Settings: what a plan says of an op besides the formats of its edges, for its exact meaning.

The format of a table inside an op is the entry of a site of its own. Another number is an option
of a named correction in the entry of the op's input. The other corrections, which change numbers
before the casts, are in `quire.precision.corrections`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quire.graph.sites import Site
from quire.ops.norm import LAYER_NORM, RMS_NORM
from quire.precision.corrections import CORRECTIONS, Option
from quire.precision.entry import Entry

SETTINGS = "quire_settings"
"""The key of a node's meta under which `quantize` leaves them: {keyword of `Op.exact`: value}."""


@dataclass(frozen=True)
class Setting:
    """A correction that changes no number of the graph but the exact meaning of an op.

    ops: the names of the ops at whose input it may stand.
    options: {option: (the keyword of `Op.exact` that takes it, its values)}.
    """

    ops: tuple[str, ...]
    options: Mapping[str, tuple[str, Option]]


OF_OPS = {
    # b of docs/numerics.md, "LayerNorm"; above 32 bits the product with d_i may not fit float64.
    "root": Setting((LAYER_NORM.name, RMS_NORM.name), {"bits": ("root_bits", Option(16, 1, 32))}),
}


def settings(site: Site, entry: Entry) -> dict[str, Any]:
    """{keyword of `Op.exact`: value} that the entry of a site gives the op."""
    tables = {site.operand: entry.format} if site.role == "table" else {}
    return tables | {
        OF_OPS[name].options[option][0]: value
        for name, options in entry.corrections.items()
        if name in OF_OPS
        for option, value in options.items()
    }


def correction_problem(site: Site, entry: Entry) -> str | None:
    """What is wrong with the corrections of an entry, as the end of a sentence, or None."""
    if not entry.corrections:
        return None
    legal = _legal_options(site, entry)
    for name, options in entry.corrections.items():
        if name not in legal:
            takes = f", which takes {CORRECTIONS[name].where}" if name in CORRECTIONS else ""
            return f"has no correction {name!r}{takes}; {_words(legal)}"
        for option, value in options.items():
            if option not in legal[name]:
                return f"has no option {option!r} of {name!r}; {_words(legal)}"
            if problem := legal[name][option].problem(value):
                return f"has {name}.{option}={value!r}, which is {problem}"
    return None


def _legal_options(site: Site, entry: Entry) -> dict[str, Mapping[str, Option]]:
    """{correction: its options} of all that a site can have."""
    of_op = {
        name: {option: values for option, (_, values) in setting.options.items()}
        for name, setting in OF_OPS.items()
        if site.arg == 0 and site.op in setting.ops
    }
    return of_op | {name: c.options for name, c in CORRECTIONS.items() if c.takes(site, entry)}


def _words(legal: Mapping[str, Mapping[str, Option]]) -> str:
    said = [
        f"{name!r} with {', '.join(map(repr, options))}" if options else repr(name)
        for name, options in legal.items()
    ]
    return f"legal here: {', '.join(said) or 'none'}"
