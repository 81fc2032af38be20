"""What a design is synthesised for: the Yosys commands, and what each kind of mapped cell costs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quire.errors import HardwareError
from quire.hardware.netlist import Resources

TRANSISTORS = {"$_AND_": 6, "$_OR_": 6, "$_XOR_": 12, "$_MUX_": 12, "$_NOT_": 2, "$_DFF_P_": 16}
"""Transistors of a gate in static CMOS, as Yosys counts them (`stat -tech cmos`); a NAND has 4."""


@dataclass(frozen=True)
class Target:
    """A technology.

    script: Yosys commands that map the design whose sources are read; `{top}` is its top module.
    cells: what each kind of mapped cell costs. places: whether nextpnr can place it.
    """

    script: str
    cells: Mapping[str, Resources]
    places: bool = False


def _cells(**kinds: Mapping[str, int]) -> dict[str, Resources]:
    """Costs by kind from {resource: {kind: amount}}; each kind uses one resource."""
    return {
        kind: Resources(**{resource: amount})
        for resource, amounts in kinds.items()
        for kind, amount in amounts.items()
    }


def _free(*kinds: str) -> dict[str, Resources]:
    """Cells that cost nothing of what is counted: carry chains and wide multiplexers of slices."""
    return dict.fromkeys(kinds, Resources())


# The lookup tables that Xilinx cells take: UG474 and UG574, distributed RAM, shift registers.
# INV is drawn into the lookup table or the register it feeds.
_XILINX = _free("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "INV") | _cells(
    LUT={
        **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
        **dict.fromkeys(("SRL16E", "SRLC32E", "RAM64X1S"), 1),
        **dict.fromkeys(("RAM64X1D", "RAM128X1S"), 2),
        **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
        **dict.fromkeys(("RAM32M16", "RAM64M8", "RAM256X1D", "RAM512X1S"), 8),
        **dict.fromkeys(("RAM64X8SW", "RAM32X16DR8"), 8),
    },
    FF={f"{kind}{edge}": 1 for kind in ("FDRE", "FDSE", "FDCE", "FDPE") for edge in ("", "_1")},
    DSP={"DSP48E1": 1, "DSP48E2": 1},
    BRAM={"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2},
)

# CCU2C: two LUT4 with carry. TRELLIS_DPR16X4: four LUT4 of memory and two that write it, as
# nextpnr packs it.
_ECP5 = _free("PFUMX", "L6MUX21") | _cells(
    LUT={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
    FF={"TRELLIS_FF": 1},
    DSP={"MULT18X18D": 1},
    BRAM={"DP16KD": 1, "PDPW16KD": 1},
)

_GATES = {
    **{kind: Resources(gates=number / 4) for kind, number in TRANSISTORS.items()},
    "$_DFF_P_": Resources(FF=1, gates=TRANSISTORS["$_DFF_P_"] / 4),
}

_TWO_INPUTS = ["input", "input", "output"]

_XILINX_SCRIPT = "synth_xilinx -family {family} -top {{top}} -flatten -noiopad -noclkbuf\n"
_TO_GATES = "synth -flatten -top {top}\ndfflegalize -cell $_DFF_P_ 01\n"

TARGETS = {
    "xc7": Target(_XILINX_SCRIPT.format(family="xc7"), _XILINX),
    "xcup": Target(_XILINX_SCRIPT.format(family="xcup"), _XILINX),
    "ecp5": Target("synth_ecp5 -top {top}\n", _ECP5, places=True),
    "gates": Target(_TO_GATES + "abc -g AND,OR,XOR,MUX\nopt_clean\n", _GATES),
}
"""By name. Memories are gates on `gates`, ROMs included."""

WITH_LIBERTY = (
    "read_liberty -lib {liberty}\n"
    + _TO_GATES
    + "dfflibmap -liberty {liberty}\nabc -liberty {liberty}\nopt_clean\n"
)
"""Instead of the script of `gates`, for a library of cells."""


def library_costs(netlist: Path, liberty: Path) -> dict[str, Resources]:
    """Costs of a library's cells, whose areas are in the netlist that Yosys wrote with them in it.

    The unit is the smallest cell of two inputs and one output, a NAND or a NOR.
    """
    modules = json.loads(netlist.read_text())["modules"]
    cells = {name: m for name, m in modules.items() if "blackbox" in m["attributes"]}
    areas = {name: float(m["attributes"].get("area", 0)) for name, m in cells.items()}
    pairs = [areas[n] for n, m in cells.items() if areas[n] > 0 and _directions(m) == _TWO_INPUTS]
    if not pairs:
        raise HardwareError(f"liberty={str(liberty)!r} has no cell of two inputs and one output")
    flops = _flip_flops(liberty.read_text())
    return {
        name: Resources(FF=int(name in flops), gates=area / min(pairs))
        for name, area in areas.items()
    }


def _directions(module: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[str]:
    return sorted(port["direction"] for port in module["ports"].values())


def _flip_flops(library: str) -> set[str]:
    """The cells of a Liberty file that have a group `ff`."""
    cells = re.split(r'\bcell\s*\(\s*"?', library)[1:]
    return {re.split(r'["\s)]', cell)[0] for cell in cells if re.search(r"\bff\s*\(", cell)}
