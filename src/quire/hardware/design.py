"""`Design`: the netlist of an accelerator, as frozen records that `render` turns into files.

A stage is a module made of library cells and wires only; the top is made of stages.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.names import module_of
from quire.hardware.stream import Stream
from quire.hardware.timing import Step, departures

if TYPE_CHECKING:
    from quire.hardware.cost import HardwareCost
    from quire.hardware.run import Run
    from quire.hardware.simulate import Stalls, Waveform
    from quire.hardware.synth import Synthesis

Value = int | bool | str


@dataclass(frozen=True)
class Instance:
    """A library cell: its parameters, and the expression at each port."""

    cell: str
    name: str
    parameters: tuple[tuple[str, Value], ...]
    ports: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Wire:
    """A named vector of a stage; `value` is what drives it, "" where an instance does."""

    name: str
    bits: int
    value: str = ""


@dataclass(frozen=True)
class Memory:
    """The content of a read-only memory, one integer a word; `style`: "block" or "logic"."""

    name: str
    bits: int
    words: tuple[int, ...]
    style: str

    @property
    def file(self) -> str:
        """Its path in the folder of the design."""
        return f"mem/{self.name}.mem"


@dataclass(frozen=True)
class Stage:
    """One module of the dataflow.

    name: after the path of the module in the model. kind: "linear", "table", ...
    reads, writes: streams in and out. assigns: (what is driven, by what), the output ports.
    interval: cycles a sample in steady state. steps: what delays beats inside. detail: for people.
    sum_bits: bits of the adders that are written as sums on wires.
    """

    name: str
    kind: str
    reads: tuple[Stream, ...]
    writes: tuple[Stream, ...]
    wires: tuple[Wire, ...]
    instances: tuple[Instance, ...]
    memories: tuple[Memory, ...]
    assigns: tuple[tuple[str, str], ...]
    interval: int
    steps: tuple[Step, ...] = ()
    detail: str = ""
    sum_bits: int = 0

    @property
    def module(self) -> str:
        """The name of its module."""
        return module_of(self.name)


@dataclass(frozen=True)
class Design:
    """A dataflow accelerator: stages in the order of the data, and the streams at its edges.

    name: of the top module. inputs, outputs: in the order of the graph's. folder: where `emit`
    wrote it. graph: what it was made from, the reference of a simulation; None if it was loaded.
    """

    name: str
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]
    stages: tuple[Stage, ...]
    folder: Path | None = field(default=None, compare=False)
    graph: GraphModule | None = field(default=None, compare=False, repr=False)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Every stream inside the top: those of the inputs first, then as they are written."""
        written = (stream for stage in self.stages for stream in stage.writes)
        return tuple(dict.fromkeys([*self.inputs, *written]))

    @property
    def memories(self) -> tuple[Memory, ...]:
        """Every read-only memory."""
        return tuple(memory for stage in self.stages for memory in stage.memories)

    @property
    def interval(self) -> int:
        """Cycles from one sample to the next in steady state: those of the slowest stage."""
        return max(*self.intervals.values(), 1)

    @property
    def intervals(self) -> dict[str, int]:
        """Cycles a sample of each stage and stream."""
        beats = {f"stream {stream.name}": stream.beats for stream in self.streams}
        return {**{stage.name: stage.interval for stage in self.stages}, **beats}

    @property
    def bottleneck(self) -> str:
        """The stage or stream that sets the interval; of several a layer, whose lanes do."""
        streams = [(stream.beats, False, stream.name) for stream in self.streams]
        stages = [(s.interval, s.kind == "linear", s.name) for s in self.stages]
        return max([*streams, *stages], key=lambda found: found[:2])[2]

    @property
    def latency(self) -> int:
        """Cycles from the first beat of a lone sample that is accepted to its last beat out."""
        leaves = {s.name: list(range(1, s.beats + 1)) for s in self.inputs}
        for stage in self.stages:
            arrivals = [leaves[stream.name] for stream in stage.reads]
            times = departures(stage.steps, arrivals)
            leaves.update({stream.name: times for stream in stage.writes})
        return max(leaves[stream.name][-1] for stream in self.outputs) + 1

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.interval} cycles a sample, latency {self.latency} cycles"]
        lines += [f"  in   {stream}" for stream in self.inputs]
        lines += [
            f"  {stage.kind:7s} {stage.name}" + (f": {stage.detail}" if stage.detail else "")
            for stage in self.stages
        ]
        lines += [f"  out  {stream}" for stream in self.outputs]
        return "\n".join(lines)

    @staticmethod
    def load(folder: str | os.PathLike[str], graph: GraphModule | None = None) -> Design:
        """Read back a folder that `emit` wrote; with its quantized graph, `simulate` can compare.

        Raises HardwareError for a folder of something else, and names the first source, memory or
        record that is missing or not as `emit` wrote it, by the hashes of the manifest.
        """
        from quire.hardware.storage import load

        return load(Path(folder), graph)

    def encode(self, *inputs: Tensor) -> bytes | tuple[bytes, ...]:
        """The bytes of a batch for the AXI4-Stream inputs, sample by sample, beat by beat.

        inputs: float, (samples, *shape), one for each input; each gives one `bytes`.
        """
        from quire.hardware.axi import encode

        self._check_count("inputs", self.inputs, inputs)
        pairs = zip(self.inputs, inputs, strict=True)
        encoded = tuple(encode(stream, x).tobytes() for stream, x in pairs)
        return encoded[0] if len(encoded) == 1 else encoded

    def decode(self, *outputs: bytes) -> Tensor | tuple[Tensor, ...]:
        """The tensors of the bytes of the AXI4-Stream outputs, float32 (samples, *shape) each.

        Raises HardwareError where the bytes are not a whole number of samples.
        """
        from quire.hardware.axi import decode, from_bytes

        self._check_count("outputs", self.outputs, outputs)
        pairs = zip(self.outputs, outputs, strict=True)
        decoded = tuple(decode(stream, from_bytes(stream, data)) for stream, data in pairs)
        return decoded[0] if len(decoded) == 1 else decoded

    def simulate(
        self,
        *inputs: Tensor,
        stalls: Stalls | float | tuple[float, float] | None = None,
        seed: int = 0,
        probe: str | Sequence[str] = (),
        waveform: Waveform | str | os.PathLike[str] | None = None,
        check: bool = True,
        progress: bool = False,
    ) -> Run:
        """Simulate a batch with Verilator and compare every output with `quire.exact`.

        inputs: float, (samples, *shape), one for each input. stalls: how likely both sides pause in
        a cycle, one number or (sources, sinks), at random by `seed`. probe: names of streams inside
        to return as well; a stage, such as a fork, stands for the stream that it writes. waveform:
        a file for a VCD of the last cycles.
        check: compare with the graph; a loaded design has one only if `load` was given it.

        Raises HardwareError at the first value that differs, which names stage, beat, lane and
        both values; for a tool that is missing or fails, with its log; for a deadlock; and for an
        argument that is not legal (FormatError for NaN and dtypes).
        """
        from quire.hardware.run import simulate

        self._check_count("inputs", self.inputs, inputs)
        return simulate(self, inputs, stalls, seed, probe, waveform, check, progress)

    def synthesize(
        self,
        target: str,
        *,
        place: bool = False,
        liberty: str | os.PathLike[str] | None = None,
        clock_mhz: float = 200.0,
        seed: int = 1,
        timeout: float | None = None,
        progress: bool = False,
    ) -> Synthesis:
        """Synthesise the emitted folder with Yosys, and place it with nextpnr (ECP5).

        target: "xc7", "xcup", "ecp5" or "gates" (NAND2 equivalents; `liberty`: a cell library).
        clock_mhz: what the placer aims for. seed: of the placer. timeout: seconds after which the
        tools are stopped. progress: show on stderr where they are.
        """
        from quire.hardware.synth import synthesize

        return synthesize(
            self._folder("synthesize"),
            target,
            place=place,
            liberty=liberty,
            clock_mhz=clock_mhz,
            seed=seed,
            timeout=timeout,
            progress=progress,
        )

    def cost(self) -> HardwareCost:
        """Cycles, LUT, FF, DSP and BRAM on 7 series, in all and by layer, without synthesis.

        LUT and FF are estimates; benchmarks/RESULTS.md says how far off they are.
        """
        from quire.hardware.cost import cost

        return cost(self)

    def _folder(self, what: str) -> Path:
        if self.folder is None:
            raise HardwareError(f"cannot {what} a design that was not written: use quire.emit")
        return self.folder

    @staticmethod
    def _check_count(what: str, streams: Sequence[Stream], given: Sequence[Any]) -> None:
        if len(streams) != len(given):
            names = ", ".join(stream.name for stream in streams)
            raise HardwareError(f"{len(given)} {what} for a design that has {names}")
