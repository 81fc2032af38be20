"""A stage under construction: cells between its input streams and a net that is not registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from quire.hardware.design import Instance, Memory, Stage, Value, Wire
from quire.hardware.stream import Codes, Integers, Stream
from quire.hardware.timing import Step

LOGIC_ROM_BITS = 1024
"""A memory of at most so many bits is built of logic, not of block RAM."""


@dataclass
class Builder:
    """Collects the wires, cells and memories of one stage."""

    name: str
    kind: str
    reads: list[Stream] = field(default_factory=list[Stream])
    wires: list[Wire] = field(default_factory=list[Wire])
    instances: list[Instance] = field(default_factory=list[Instance])
    memories: list[Memory] = field(default_factory=list[Memory])
    assigns: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    interval: int = 0
    steps: list[Step] = field(default_factory=list[Step])
    detail: str = ""
    sum_bits: int = 0

    def wire(self, name: str, bits: int, value: str = "") -> str:
        """A new vector with a free name like `name`."""
        taken = {wire.name for wire in self.wires}
        free, n = name, 1
        while free in taken:
            n += 1
            free = f"{name}_{n}"
        self.wires.append(Wire(free, bits, value))
        return free

    def cell(self, cell: str, parameters: Mapping[str, Value], ports: Mapping[str, str]) -> None:
        """An instance, named after its cell."""
        count = sum(instance.cell == cell for instance in self.instances)
        name = f"u_{cell.removeprefix('quire_')}" + (f"_{count + 1}" if count else "")
        self.instances.append(Instance(cell, name, tuple(parameters.items()), tuple(ports.items())))

    def clocked(self, cell: str, parameters: Mapping[str, Value], ports: Mapping[str, str]) -> None:
        """An instance with clock and reset."""
        self.cell(cell, parameters, {"clk_i": "clk_i", "rst_ni": "rst_ni", **ports})

    def rom(
        self, name: str, bits: int, words: Sequence[int], enable: str, address: str, style: str
    ) -> str:
        """A memory that answers two enabled edges after its address; returns its data."""
        data = self.wire(f"{name}_data", bits)
        chosen = style
        if style == "auto":
            chosen = "block" if bits * len(words) > LOGIC_ROM_BITS else "logic"
        memory = Memory(f"{self.name}__{name}", bits, tuple(words), chosen)
        self.memories.append(memory)
        ports = {"clk_i": "clk_i", "en_i": enable, "addr_i": address, "data_o": data}
        parameters = {
            "WIDTH": bits,
            "DEPTH": len(words),
            "BLOCK": int(chosen == "block"),
            "FILE": f'"{memory.file}"',
        }
        self.cell("quire_rom", parameters, ports)
        return data

    def read(self, stream: Stream) -> Net:
        """An input stream of the stage."""
        port = f"in{len(self.reads)}" if self.reads else "in"
        self.reads.append(stream)
        return Net(
            self,
            stream.shape,
            stream.lanes,
            stream.values,
            f"{port}_valid_i",
            f"{port}_ready_o",
            f"{port}_data_i",
        )

    def drive_output(self, index: int, net: Net) -> None:
        """Connect a net to an output port of the stage."""
        port = f"out{index}" if index else "out"
        self.assigns += [
            (f"{port}_valid_o", net.valid),
            (f"{port}_data_o", net.data),
            (net.ready, f"{port}_ready_i"),
        ]

    def finish(self, writes: Sequence[Stream]) -> Stage:
        return Stage(
            self.name,
            self.kind,
            tuple(self.reads),
            tuple(writes),
            tuple(self.wires),
            tuple(self.instances),
            tuple(self.memories),
            tuple(self.assigns),
            self.interval,
            tuple(self.steps),
            self.detail,
            self.sum_bits,
        )


@dataclass(frozen=True)
class Net:
    """A stream inside a stage: the expressions of its handshake and data.

    The net owns `ready`: whoever consumes it drives that wire. rectified: the values are max(0, x)
    of the data, which a cell has yet to do.
    """

    builder: Builder
    shape: tuple[int, ...]
    lanes: int
    values: Integers | Codes
    valid: str
    ready: str
    data: str
    rectified: bool = False

    def stream(self, name: str, node: str = "") -> Stream:
        """The stream that this net makes when it leaves its stage."""
        return Stream(name, self.shape, self.lanes, self.values, node)

    @property
    def elements(self) -> str:
        """The values of a beat, without the scale above them."""
        return part(self.data, 0, self.lanes * self.values.bits)

    @property
    def scale(self) -> str:
        return part(self.data, self.lanes * self.values.bits, self.values.beat_scale_bits)

    def with_data(self, data: str, values: Integers | Codes) -> Net:
        """The same handshake with other data: after a combinational cell."""
        return replace(self, data=data, values=values)

    def stepped(self, name: str, bits: int) -> tuple[str, str, str]:
        """New valid, ready and data wires for a net behind a clocked cell."""
        wire = self.builder.wire
        return wire(f"{name}_valid", 1), wire(f"{name}_ready", 1), wire(f"{name}_data", bits)


def part(data: str, low: int, bits: int) -> str:
    """A part-select of a vector."""
    return f"{data}[{low} +: {bits}]"
