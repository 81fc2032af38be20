"""`render`: a design as files, a pure function: the same design gives the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from quire.hardware.design import Design, Instance, Memory, Stage, Wire
from quire.hardware.manifest import manifest
from quire.hardware.names import instance_of
from quire.hardware.project import project
from quire.hardware.storage import FILE, design_json
from quire.hardware.stream import Stream

GENERATED = "// Emitted by Quire. This RTL belongs to whoever emitted it."


def render(design: Design, clock: float, tb: Mapping[str, bytes]) -> dict[str, bytes]:
    """{relative path: content} of a design: all that `emit` writes.

    clock: Hz, for the constraints. tb: the files of the bench.
    """
    cells = library(design)
    modules = {stage.module: stage_module(stage) for stage in design.stages}
    modules |= {design.name: top_module(design)}
    texts = {f"rtl/{name}.sv": text for name, text in {**cells, **modules}.items()}
    sources = list(texts)
    texts |= {memory.file: memory_text(memory) for memory in design.memories}
    texts[FILE] = design_json(design)
    found = {path: text.encode() for path, text in texts.items()}
    found |= {**project(design, sources, clock), **tb}
    data = manifest(design, sources, found)
    return {**found, "manifest.json": (json.dumps(data, indent=1) + "\n").encode()}


def library(design: Design) -> dict[str, str]:
    """{cell: source} of the library cells that a design uses, those below first."""
    folder = files("quire.hardware") / "rtl"
    found: dict[str, str] = {}

    def visit(cell: str) -> None:
        if cell in found:
            return
        text = (folder / f"{cell}.sv").read_text(encoding="utf-8")
        for other in sorted(set(re.findall(r"^\s*(quire_\w+)\s+#?\(", text, re.MULTILINE))):
            if other != cell:
                visit(other)
        found[cell] = text

    used = {instance.cell for stage in design.stages for instance in stage.instances}
    for cell in sorted(used | {"quire_axis_in", "quire_axis_out"}):
        visit(cell)
    return found


def memory_text(memory: Memory) -> str:
    """A memory as $readmemh reads it: one word a line, in hexadecimal."""
    digits = -(-memory.bits // 4)
    return "".join(f"{word:0{digits}x}\n" for word in memory.words)


@dataclass(frozen=True)
class _Port:
    """bits: of a vector; None for a single wire, of which nobody can select a part."""

    direction: str
    bits: int | None
    name: str

    def __str__(self) -> str:
        vector = "" if self.bits is None else f"[{self.bits - 1}:0] "
        return f"  {self.direction:6s} logic {vector}{self.name}"


def stage_module(stage: Stage) -> str:
    """One stage: ports, wires, cells."""
    header = [
        GENERATED,
        "//",
        f"// {stage.name}: {stage.kind}. {stage.detail}".rstrip(". ") + ".",
        *(f"//   in   {stream}" for stream in stage.reads),
        *(f"//   out  {stream}" for stream in stage.writes),
        f"// Interval {stage.interval} cycles a sample. A register slice ends the stage.",
    ]
    ports = [_Port("input", None, "clk_i"), _Port("input", None, "rst_ni")]
    for i, stream in enumerate(stage.reads):
        ports += _stream_ports(f"in{i or ''}", stream, "input", "output")
    for i, stream in enumerate(stage.writes):
        ports += _stream_ports(f"out{i or ''}", stream, "output", "input")
    body = [*_wires(stage.wires), ""]
    body += [f"  assign {driven} = {value};" for driven, value in stage.assigns]
    for instance in stage.instances:
        body += ["", *_instance(instance)]
    return _module(stage.module, header, ports, body)


def _stream_ports(prefix: str, stream: Stream, forward: str, back: str) -> list[_Port]:
    away, here = ("i", "o") if forward == "input" else ("o", "i")
    return [
        _Port(forward, None, f"{prefix}_valid_{away}"),
        _Port(back, None, f"{prefix}_ready_{here}"),
        _Port(forward, stream.beat_bits, f"{prefix}_data_{away}"),
    ]


def _wires(wires: Iterable[Wire]) -> list[str]:
    """Declarations; a part-select of a vector needs one even for one bit."""
    lines: list[str] = []
    for wire in wires:
        lines.append(f"  logic [{wire.bits - 1}:0] {wire.name};")
        if wire.value:
            lines.append(f"  assign {wire.name} = {wire.value};")
    return lines


def _instance(instance: Instance) -> list[str]:
    name = f"{instance.cell}"
    lines: list[str] = []
    if instance.parameters:
        lines += [f"  {name} #("]
        lines += _listed(f".{key}({_literal(value)})" for key, value in instance.parameters)
        lines += [f"  ) {instance.name} ("]
    else:
        lines += [f"  {name} {instance.name} ("]
    lines += _listed(f".{port}({expression})" for port, expression in instance.ports)
    return [*lines, "  );"]


def _literal(value: object) -> str:
    return f"1'b{int(value)}" if isinstance(value, bool) else str(value)


def _listed(items: Iterable[str]) -> list[str]:
    listed = list(items)
    return [f"    {item}," for item in listed[:-1]] + [f"    {item}" for item in listed[-1:]]


def _module(name: str, header: Sequence[str], ports: Sequence[_Port], body: Sequence[str]) -> str:
    lines = [*header, f"module {name} ("]
    lines += [f"{port}," for port in ports[:-1]] + [str(ports[-1]), ");"]
    return "\n".join([*lines, *body, "endmodule"]) + "\n"


def top_module(design: Design) -> str:
    """The top: AXI4-Stream at the edges, stages between, and nothing else."""
    header = [GENERATED, "//", *(f"// {line}".rstrip() for line in str(design).splitlines())]
    ports = [_Port("input", None, "aclk"), _Port("input", None, "aresetn")]
    for stream in design.inputs:
        ports += _axis_ports(f"s_axis_{stream.name}", stream, "input", "output")
    for stream in design.outputs:
        ports += _axis_ports(f"m_axis_{stream.name}", stream, "output", "input")
    ports.append(_Port("output", None, "error"))
    body: list[str] = []
    for stream in design.streams:
        body += [
            f"  logic {stream.name}_valid, {stream.name}_ready;",
            f"  logic [{stream.beat_bits - 1}:0] {stream.name}_data;",
        ]
    body.append(f"  logic [{len(design.inputs) - 1}:0] errors;")
    body.append("  assign error = |errors;")
    for i, stream in enumerate(design.inputs):
        body += ["", *_instance(_axis_in(stream, i))]
    for stage in design.stages:
        body += ["", *_instance(_stage_instance(stage))]
    for stream in design.outputs:
        body += ["", *_instance(_axis_out(stream))]
    return _module(design.name, header, ports, body)


def _axis_ports(prefix: str, stream: Stream, forward: str, back: str) -> list[_Port]:
    return [
        _Port(forward, stream.beat_bytes * 8, f"{prefix}_tdata"),
        _Port(forward, None, f"{prefix}_tvalid"),
        _Port(back, None, f"{prefix}_tready"),
        _Port(forward, None, f"{prefix}_tlast"),
    ]


def _axis(cell: str, stream: Stream, ports: Sequence[tuple[str, str]]) -> Instance:
    widths = (
        ("TDATA_W", stream.beat_bytes * 8),
        ("WIDTH", stream.beat_bits),
        ("BEATS", stream.beats),
    )
    clocked = (("clk_i", "aclk"), ("rst_ni", "aresetn"))
    end = "in" if cell == "quire_axis_in" else "out"
    return Instance(cell, f"{stream.name}_axis_{end}", widths, (*clocked, *ports))


def _axis_in(stream: Stream, index: int) -> Instance:
    port, wire = f"s_axis_{stream.name}", stream.name
    return _axis(
        "quire_axis_in",
        stream,
        [
            ("tvalid_i", f"{port}_tvalid"),
            ("tready_o", f"{port}_tready"),
            ("tdata_i", f"{port}_tdata"),
            ("tlast_i", f"{port}_tlast"),
            ("out_valid_o", f"{wire}_valid"),
            ("out_ready_i", f"{wire}_ready"),
            ("out_data_o", f"{wire}_data"),
            ("error_o", f"errors[{index}]"),
        ],
    )


def _axis_out(stream: Stream) -> Instance:
    port, wire = f"m_axis_{stream.name}", stream.name
    return _axis(
        "quire_axis_out",
        stream,
        [
            ("in_valid_i", f"{wire}_valid"),
            ("in_ready_o", f"{wire}_ready"),
            ("in_data_i", f"{wire}_data"),
            ("tvalid_o", f"{port}_tvalid"),
            ("tready_i", f"{port}_tready"),
            ("tdata_o", f"{port}_tdata"),
            ("tlast_o", f"{port}_tlast"),
        ],
    )


def _stage_instance(stage: Stage) -> Instance:
    ports: list[tuple[str, str]] = [("clk_i", "aclk"), ("rst_ni", "aresetn")]
    for prefix, streams, (away, here) in (
        ("in", stage.reads, ("i", "o")),
        ("out", stage.writes, ("o", "i")),
    ):
        for i, stream in enumerate(streams):
            port = f"{prefix}{i or ''}"
            ports += [
                (f"{port}_valid_{away}", f"{stream.name}_valid"),
                (f"{port}_ready_{here}", f"{stream.name}_ready"),
                (f"{port}_data_{away}", f"{stream.name}_data"),
            ]
    return Instance(stage.module, instance_of(stage.name), (), tuple(ports))
