"""What a mapped netlist uses, in all and by layer: reads the JSON that Yosys writes.

A layer is an instance in the top, named after its stage. After flattening, a cell belongs to the
layer that its name or the net it drives begins with. Mapping to LUTs or gates loses most names, so
a cell without one belongs where most pins that it drives belong; if that leads only to the top's
ports, where most of its inputs come from; and else to `TOP`. A layer of wires and logic alone, with
no register, can so be counted with the layer it feeds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from quire.errors import HardwareError
from quire.hardware.names import stage_of

TOP = "(top)"
"""The layer of what belongs to none."""

_FLATTENED = re.compile(r"(?:\$flatten\\*)?([^.$\\]+)\.")


@dataclass(frozen=True)
class Resources:
    """What a circuit uses.

    LUT: lookup tables, those that serve as memory and shift registers included. FF: flip-flops.
    DSP: multiplier blocks. BRAM: block memories of 18 Kbit. gates: two-input NANDs that take the
    same area, for a target of gates; its flip-flops are gates too.
    """

    LUT: int = 0
    FF: int = 0
    DSP: int = 0
    BRAM: int = 0
    gates: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Cell:
    """A cell of a netlist. pins: (port, bit, whether the cell drives it), constants left out."""

    kind: str
    pins: tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True)
class Netlist:
    """A flat netlist. layers: {instance that the top had: its layer}. names: of each bit."""

    cells: Mapping[str, Cell]
    layers: Mapping[str, str]
    names: Mapping[int, tuple[str, ...]]
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])


def read_netlist(file: Path, top: str) -> Netlist:
    """The module `top` of a file that Yosys's `write_json` wrote after flattening."""
    module = json.loads(file.read_text())["modules"][top]
    scopes = {n for n, c in module["cells"].items() if c["type"] == "$scopeinfo"}
    names: dict[int, list[str]] = {}
    for name, net in module["netnames"].items():
        for bit in net["bits"]:
            names.setdefault(bit, []).append(name)
    return Netlist(
        {n: _cell(c) for n, c in module["cells"].items() if n not in scopes},
        {name: stage_of(name) for name in scopes if "." not in name},
        {bit: tuple(dict.fromkeys(of)) for bit, of in names.items()},
        {n: (p["direction"], len(p["bits"])) for n, p in module["ports"].items()},
    )


def count(
    netlist: Netlist, costs: Mapping[str, Resources], layers: Mapping[str, str]
) -> dict[str, Resources]:
    """What each layer uses; `costs` says it of each kind of cell.

    HardwareError on a kind that it lacks.
    """
    used = {layer: Resources() for layer in sorted(netlist.layers.values())} | {TOP: Resources()}
    numbers = Counter((layers[name], cell.kind) for name, cell in netlist.cells.items())
    for (layer, kind), number in numbers.items():
        if kind not in costs:
            raise HardwareError(f"no cost is known of the cell {kind}: known are {sorted(costs)}")
        used[layer] += Resources(*(number * amount for amount in astuple(costs[kind])))
    return used


def layers_of(netlist: Netlist) -> dict[str, str]:
    """The layer of each cell, by the rules above."""
    known = {
        name: layer
        for name, cell in netlist.cells.items()
        if (layer := _named_layer(name, cell, netlist)) is not None
    }
    _spread(netlist, known, driven=True)
    _spread(netlist, known, driven=False)
    return {name: known.get(name, TOP) for name in netlist.cells}


def _cell(cell: Mapping[str, Any]) -> Cell:
    pins = (
        (port, bit, cell["port_directions"][port] == "output")
        for port, bits in cell["connections"].items()
        for bit in bits
        if isinstance(bit, int)
    )
    return Cell(cell["type"], tuple(pins))


def _named_layer(name: str, cell: Cell, netlist: Netlist) -> str | None:
    """The layer that a cell's own name or the names of the nets it drives tell, if any."""
    own = _layer_in(name, netlist.layers)
    if own is not None:
        return own
    votes = Counter(
        layer
        for _, bit, drives in cell.pins
        if drives
        for layer in _drivers(netlist.names.get(bit, ()), netlist.layers)
    )
    return _first(votes)


def _drivers(names: Iterable[str], layers: Mapping[str, str]) -> list[str]:
    """The layers that may drive a net of these names: those of which it is not an input port."""
    found = [(name, layer) for name in names if (layer := _layer_in(name, layers)) is not None]
    readers = {layer for name, layer in found if name.count(".") == 1 and name.endswith("_i")}
    return [layer for _, layer in found if layer not in readers]


def _layer_in(name: str, layers: Mapping[str, str]) -> str | None:
    match = _FLATTENED.match(name)
    return layers.get(match[1]) if match else None


def _spread(netlist: Netlist, known: dict[str, str], driven: bool) -> None:
    """Give cells without a layer that of most cells they drive (or are driven by), step by step."""
    near = _neighbours(netlist, {n for n in netlist.cells if n not in known}, driven)
    while near:
        votes = {n: Counter(known[m] for m in others if m in known) for n, others in near.items()}
        new = {name: layer for name, of in votes.items() if (layer := _first(of)) is not None}
        if not new:
            return
        known.update(new)
        near = {name: others for name, others in near.items() if name not in new}


def _neighbours(netlist: Netlist, cells: set[str], driven: bool) -> dict[str, list[str]]:
    """For each of `cells` those that it drives, or that drive it, once for each pin."""
    ends: dict[int, list[str]] = {}
    for name, cell in netlist.cells.items():
        for _, bit, drives in cell.pins:
            if drives is not driven:
                ends.setdefault(bit, []).append(name)
    return {
        name: [
            other
            for _, bit, drives in netlist.cells[name].pins
            if drives is driven
            for other in ends.get(bit, ())
        ]
        for name in cells
    }


def _first(votes: Counter[str]) -> str | None:
    """The layer with the most votes, the first by name among equals."""
    return min(votes, key=lambda layer: (-votes[layer], layer), default=None)
