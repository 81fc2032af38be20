"""Place a design on an ECP5 with nextpnr, and say how fast its clock may be.

The design is placed inside a harness of registers, for two reasons: a beat can have more bits than
a package has pins, and paths from and to pins would say more about the pins than about the design.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.hardware.netlist import TOP, Netlist
from quire.hardware.toolchain import Watch, run_nextpnr_ecp5, run_yosys

CLOCK, RESET = "aclk", "aresetn"
_DEVICE = ("--85k", "--package", "CABGA381", "--speed", "8")
_HARNESS, _INSTANCE = "quire_placed", "quire_design"  # names that no top has


@dataclass(frozen=True)
class CriticalPath:
    """The slowest path from register to register: its ends' layers and cells, and its delay."""

    source: str
    sink: str
    source_cell: str
    sink_cell: str
    delay_ns: float


@dataclass(frozen=True)
class Timing:
    """frequency_mhz: the highest of the clock that the placed design meets."""

    frequency_mhz: float
    critical_path: CriticalPath


def place(
    folder: Path,
    work: Path,
    top: str,
    netlist: Netlist,
    layers: Mapping[str, str],
    clock_mhz: float,
    seed: int,
    watch: Watch | None = None,
) -> Timing:
    """Place `work`/netlist.json, a design mapped to ECP5 cells, for a clock and a seed.

    A design that misses the clock is no error. HardwareError where it does not fit, for one.
    """
    (work / "harness.sv").write_text(_harness(top, netlist.ports))
    run_yosys(_script(top, work.relative_to(folder)), folder, work / "harness.log", watch)
    arguments = (*_DEVICE, "--json", "placed.json", "--report", "timing.json")
    options = ("--freq", str(clock_mhz), "--seed", str(seed), "--timing-allow-fail")
    run_nextpnr_ecp5((*arguments, *options), work, work / "nextpnr.log", watch)
    return _timing(json.loads((work / "timing.json").read_text()), layers)


def _script(top: str, work: Path) -> str:
    """Map the harness around the design as a black box, then put the design back."""
    return (
        f"read_json {work}/netlist.json\nblackbox {top}\n"
        f"read_verilog -sv {work}/harness.sv\nsynth_ecp5 -top {_HARNESS}\n"
        f"delete ={top}\nread_json {work}/netlist.json\nhierarchy -top {_HARNESS}\nflatten\n"
        f"select {_HARNESS}\nwrite_json -selected {work}/placed.json\n"
    )


def _harness(top: str, ports: Mapping[str, tuple[str, int]]) -> str:
    """A module that feeds all inputs from one shift register and folds all outputs into another."""
    fixed = (CLOCK, RESET)
    inputs = [(n, w) for n, (way, w) in ports.items() if way == "input" and n not in fixed]
    outputs = [(n, w) for n, (way, w) in ports.items() if way == "output"]
    in_bits, out_bits = (sum(w for _, w in of) for of in (inputs, outputs))
    wires = [f".{name}({name})" for name in fixed if name in ports]
    wires += _slices("in_q", inputs) + _slices("out", outputs)
    return f"""\
module {_HARNESS} (input logic {CLOCK}, input logic {RESET}, input logic in_i, output logic out_o);
  logic [{in_bits}-1:0] in_q;
  logic [{out_bits}-1:0] out, out_q;
  {top} {_INSTANCE} ({", ".join(wires)});
  assign out_o = out_q[{out_bits}-1];
  always_ff @(posedge {CLOCK}) begin
    in_q <= ({{in_q, in_i}});
    out_q <= out ^ (out_q << 1);
  end
endmodule
"""


def _slices(wire: str, ports: Iterable[tuple[str, int]]) -> list[str]:
    """Each port on its own bits of a wire."""
    connections: list[str] = []
    low = 0
    for name, width in ports:
        connections.append(f".{name}({wire}[{low}+:{width}])")
        low += width
    return connections


def _timing(report: Mapping[str, Any], layers: Mapping[str, str]) -> Timing:
    """What nextpnr's report says of the only clock."""
    clock, speed = next((n, s) for n, s in report["fmax"].items() if n.find(CLOCK) >= 0)
    edge = f"posedge {clock}"
    steps = next(
        p["path"] for p in report["critical_paths"] if (p["from"], p["to"]) == (edge, edge)
    )
    source, sink = (_cell(steps[i][end]["cell"]) for i, end in ((0, "from"), (-1, "to")))
    delay = sum(step["delay"] for step in steps)
    path = CriticalPath(_layer(source, layers), _layer(sink, layers), source, sink, delay)
    return Timing(speed["achieved"], path)


def _cell(name: str) -> str:
    """A cell's name in the design, from its name in the harness."""
    return name.replace(f"$flatten\\{_INSTANCE}.", "").removeprefix(f"{_INSTANCE}.")


def _layer(cell: str, layers: Mapping[str, str]) -> str:
    """The layer of a placed cell; nextpnr appends to the names of the cells that it splits."""
    while cell and cell not in layers:
        cell = cell.rpartition("$")[0]
    return layers.get(cell, TOP)
