"""Gates of one multiply lane: an exact dot product of 16 codes with 16 codes, divided by 16.

Both operands are ports. What is counted is the library's own: two decoders and `quire_linear` with
16 lanes, one sum and one step: products, the alignment of elements with exponents, the tree of
adders, the adder that accumulates, and the pipeline's registers. "scaled" has the shared scale of
a block as well, which shifts the sum once by `pow2(4)` of the activations and of the weights.

"cells" counts AND, OR, XOR, MUX, NOT and flip-flops one each, as Yosys's `stat` does; "gates" is
that without inverters and flip-flops. "NAND2" is the area of all in two-input NANDs, as in
`Design.synthesize("gates")`, where an XOR is three and a flip-flop four; "NAND2 of logic" leaves
the flip-flops out. "reference" is the count that such a lane had in an earlier generator, whose
unit is not known; the ratios "next to int8", of the reference and of ours, need no unit.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from record import record

from quire.formats import Block, Scalar, parse
from quire.hardware.elements import decoder, interval
from quire.hardware.netlist import Netlist, Resources, count, layers_of, read_netlist
from quire.hardware.targets import TARGETS
from quire.hardware.toolchain import run_yosys

LANES = 16
SCALE_BITS = 4
GATES = ("$_AND_", "$_OR_", "$_XOR_", "$_MUX_")
FORMATS = {  # {name: (format, gates of a lane in the reference)}
    "int4": ("fixed(4,0)", 229),
    "int8": ("fixed(8,0)", 745),
    "e4m3": ("fp8_e4m3", 989),
    "bfp4": ("bfp(4)", 194),
    "bfp8": ("bfp(8)", 735),
    "bm_e2m1": ("bm(e=2,m=1)", 246),
    "log4": ("log(4)", 286),
}
TOP = Template("""
module top (
  input  logic clk_i, rst_ni, in_valid_i, out_ready_i,
  input  logic [$LANES*$BITS-1:0] x_i, w_i,
  input  logic [$SCALE-1:0] x_scale_i, w_scale_i,
  input  logic [$ACC-1:0] bias_i,
  output logic in_ready_o, out_valid_o,
  output logic [$ACC-1:0] sum_o
);
  logic [$LANES*$SIG-1:0] x_sig, w_sig;
  logic [$LANES*$SHIFT-1:0] x_shift, w_shift;
  $DECODER #($PARAMETERS) u_x (.code_i(x_i), .sig_o(x_sig), .shift_o(x_shift));
  $DECODER #($PARAMETERS) u_w (.code_i(w_i), .sig_o(w_sig), .shift_o(w_shift));
  quire_linear #(
    .K_BEATS(1), .K_LAST($LANES), .GROUPS(1), .M_IN($LANES), .M_OUT(1), .INPUT_MAJOR(1'b1),
    .ROM_LATENCY(0), .X_SIG_W($SIG), .W_SIG_W($SIG), .X_SHIFT_W($SHIFT), .W_SHIFT_W($SHIFT),
    .HAS_SHIFT(1'b$HAS_SHIFT), .ALIGNED_W($ALIGNED), .HAS_SCALE(1'b$HAS_SCALE),
    .X_SCALE_W($SCALE), .SCALE_SHIFT_W($SCALE), .ACC_W($ACC)
  ) u_linear (
    .clk_i, .rst_ni, .in_valid_i, .in_ready_o, .in_sig_i(x_sig), .in_shift_i(x_shift),
    .in_scale_i(x_scale_i), .rom_en_o(), .weight_addr_o(), .weight_sig_i(w_sig),
    .weight_shift_i(w_shift), .scale_addr_o(), .scale_sig_i(2'd1), .scale_shift_i(w_scale_i),
    .bias_addr_o(), .bias_i(bias_i), .out_valid_o, .out_ready_i, .out_data_o(sum_o)
  );
endmodule
""")


def main() -> None:
    """Count every format and record the figures."""
    rows = {name: row(*entry) for name, entry in FORMATS.items()}
    unit = rows["int8"]
    for found in rows.values():
        ratios = {key: round(found[key] / unit[key], 3) for key in ("reference", "cells", "gates")}
        found["next to int8"] = ratios
    record("multiply_lane", rows)


def row(name: str, reference: int) -> dict[str, Any]:
    """Gates a lane of one format."""
    format = parse(name)
    element = format.element if isinstance(format, Block) else format
    assert isinstance(element, Scalar)
    figures: dict[str, Any] = {"format": name, "reference": reference}
    figures |= each(top(element, scaled=False))
    if isinstance(format, Block):
        scaled = each(top(element, scaled=True))
        figures |= {f"scaled, {key}": value for key, value in scaled.items()}
    return figures


def each(source: str) -> dict[str, float]:
    """A lane's part of a module named top."""
    netlist = synthesized(source)
    costs = TARGETS["gates"].cells
    used = sum(count(netlist, costs, layers_of(netlist)).values(), start=Resources())
    shares = {
        "cells": len(netlist.cells),
        "gates": sum(cell.kind in GATES for cell in netlist.cells.values()),
        "NAND2": used.gates,
        "NAND2 of logic": used.gates - 4 * used.FF,
        "flip-flops": used.FF,
    }
    return {key: round(value / LANES, 1) for key, value in shares.items()}


def top(element: Scalar, *, scaled: bool) -> str:
    """The dot product as SystemVerilog."""
    cell = decoder(element)
    low, high = interval(element)
    product = max(-low, high) ** 2
    aligned = max(1 + product.bit_length(), 2 * cell.sig_bits)
    reach = 2 * (2**SCALE_BITS - 1) if scaled else 0
    return TOP.substitute(
        LANES=LANES,
        BITS=element.bits,
        SIG=cell.sig_bits,
        SHIFT=max(1, cell.shift_bits),
        HAS_SHIFT=int(cell.shift_bits > 0),
        HAS_SCALE=int(scaled),
        SCALE=SCALE_BITS,
        ALIGNED=aligned,
        ACC=1 + (LANES * product).bit_length() + reach,
        DECODER=cell.cell,
        PARAMETERS=", ".join(
            f".{key}({value})" for key, value in {"LANES": LANES, **cell.parameters}.items()
        ),
    )


def synthesized(source: str) -> Netlist:
    """A module named top, as gates."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = [f for f in (files("quire.hardware") / "rtl").iterdir() if f.name.endswith(".sv")]
        for file in cells:
            (folder / file.name).write_text(file.read_text())
        (folder / "top.sv").write_text(source)
        reads = "".join(f"read_verilog -sv -defer {file.name}\n" for file in cells)
        script = reads + "read_verilog -sv top.sv\n" + TARGETS["gates"].script.format(top="top")
        run_yosys(script + "write_json netlist.json\n", folder, folder / "yosys.log")
        return read_netlist(folder / "netlist.json", "top")


if __name__ == "__main__":
    main()
