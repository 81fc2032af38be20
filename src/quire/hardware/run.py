"""A simulation of tensors, compared with the exact graph on every bit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.axi import Beats, decode, encode
from quire.hardware.design import Design
from quire.hardware.reference import exact_outputs, node_values
from quire.hardware.simulate import SimulationRun, Stalls, Traffic, Waveform, run_simulation
from quire.hardware.stream import Stream

CHUNK = 4096
"""Samples that the exact graph takes at a time."""

TIMED = 5
"""Samples whose beats' cycles a run keeps: the lone one, and those that fill the pipeline."""


@dataclass(frozen=True)
class Run:
    """What a simulation gave.

    outputs: float32 (samples, *shape), one for each output; (samples, 1) where the graph gives one
    number a sample. probes: likewise, by stream.
    latency: cycles of a lone sample, from its first accepted beat to its last beat out.
    interval: cycles a sample in steady state; None for fewer than three samples.
    predicted: the same two figures of the design (latency, interval).
    traffic: for each port and inner stream its beats, stalled and starved cycles. cycles: in all.
    compared: values that were compared with the exact graph, none of which differs.
    times: for each inner stream the cycles in which the beats of the first `TIMED` samples moved;
    cycle 0 is the one in which the first input beat is accepted.
    """

    outputs: tuple[Tensor, ...]
    probes: dict[str, Tensor]
    latency: int
    interval: float | None
    predicted: tuple[int, int]
    traffic: dict[str, Traffic]
    cycles: int
    compared: int
    bottleneck: str
    times: dict[str, list[list[int]]]

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    def __str__(self) -> str:
        interval = "-" if self.interval is None else f"{self.interval:g}"
        lines = [
            f"{len(self.output)} samples in {self.cycles} cycles; {self.compared} values compared,"
            " none differs"
            if self.compared
            else f"{len(self.output)} samples, not compared",
            f"latency  {self.latency} cycles (predicted {self.predicted[0]})",
            f"interval {interval} cycles (predicted {self.predicted[1]}), set by {self.bottleneck}",
        ]
        lines += [
            f"  {name:24s} {t.beats:9d} beats {t.stalls:9d} stalled {t.starved:9d} starved"
            for name, t in self.traffic.items()
        ]
        return "\n".join(lines)


def simulate(
    design: Design,
    inputs: Sequence[Tensor],
    stalls: Stalls | float | tuple[float, float] | None,
    seed: int,
    probe: str | Sequence[str],
    waveform: Waveform | str | os.PathLike[str] | None,
    check: bool,
    progress: bool,
) -> Run:
    """See `Design.simulate`."""
    if design.folder is None:
        raise HardwareError("cannot simulate a design that was not written: use quire.emit")
    if check and design.graph is None:
        raise HardwareError(
            "a loaded design has no graph to compare with: give Design.load(folder, graph), or "
            "check=False"
        )
    options: dict[str, Any] = {"stalls": Stalls.of(stalls), "seed": seed, "progress": progress}
    vcd = Waveform.of(waveform)
    seen = _probed_streams(design, probe)
    beats = {s.name: encode(s, x) for s, x in zip(design.inputs, inputs, strict=True)}
    kept = {stream.name: TIMED * stream.beats for stream in design.streams}
    run = run_simulation(
        design.folder,
        beats,
        probes=list(dict.fromkeys(seen.values())),
        timed=kept,
        waveform=vcd,
        **options,
    )
    outputs = tuple(decode(stream, run.outputs[stream.name]) for stream in design.outputs)
    compared = 0
    if check:
        compared = _compared(design, [x.detach().cpu() for x in inputs], outputs, beats, options)
    return Run(
        outputs,
        {name: _probed(design, stream, run) for name, stream in seen.items()},
        run.latency,
        run.interval,
        (design.latency, design.interval),
        run.streams,
        run.cycles,
        compared,
        design.bottleneck,
        {s.name: run.times[s.name].reshape(-1, s.beats).tolist() for s in design.streams},
    )


def _probed_streams(design: Design, probe: object) -> dict[str, str]:
    """The streams that are meant; a stage, such as a fork, stands for what it writes."""
    names = [probe] if isinstance(probe, str) else probe
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise HardwareError(
            f"probe={probe!r}: give the name of a stream or stage, or a list of them"
        )
    known = {stage.name: stage.writes[0].name for stage in design.stages}
    known |= {stream.name: stream.name for stream in design.streams}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise HardwareError(
            f"probe={unknown[0]!r} is no stream or stage: there are {', '.join(known)}"
        )
    return {name: known[name] for name in names}


def _probed(design: Design, name: str, run: SimulationRun) -> Tensor:
    stream = next(stream for stream in design.streams if stream.name == name)
    beats = run.probes[name]
    return decode(stream, beats.reshape(-1, stream.beats, stream.beat_bytes))


def _compared(
    design: Design,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    beats: dict[str, Beats],
    options: dict[str, Any],
) -> int:
    """The number of values that were compared; HardwareError at the first that differs."""
    graph = design.graph
    assert graph is not None
    samples = len(inputs[0])
    compared = 0
    for first in range(0, samples, CHUNK):
        part = slice(first, first + CHUNK)
        results = exact_outputs(graph, [x[part] for x in inputs])
        for stream, found, output in zip(design.outputs, results, outputs, strict=True):
            result = found.reshape(output[part].shape)  # one number a sample is a row of one
            if _first_difference(result, output[part]) is not None:
                _blame(design, graph, inputs, beats, part, options)
                raise HardwareError(_mismatch(stream, first, result, output[part]))
            compared += result.numel()
    return compared


def _first_difference(wanted: Tensor, got: Tensor) -> int | None:
    """The index of the first value whose bits differ."""
    same = wanted.contiguous().view(torch.int32) == got.contiguous().view(torch.int32)
    return None if bool(same.all()) else int((~same).flatten().nonzero()[0])


def _mismatch(stream: Stream, sample: int, wanted: Tensor, got: Tensor) -> str:
    index = _first_difference(wanted, got)
    assert index is not None
    place = int(index % stream.row)
    row = int(index // stream.row)
    beat = row % stream.rows * stream.row_beats + place // stream.lanes
    return (
        f"stage {stream.name}: sample {sample + row // stream.rows}, beat {beat}, lane "
        f"{place % stream.lanes} is {float(got.flatten()[index])!r}, and "
        f"{float(wanted.flatten()[index])!r} in the exact graph; if its plan or its "
        "weights changed since quire.emit, emit again"
    )


def _blame(
    design: Design,
    graph: GraphModule,
    inputs: Sequence[Tensor],
    beats: dict[str, Beats],
    part: slice,
    options: dict[str, Any],
) -> None:
    """Raise at the first stage inside that differs, in the order of the dataflow."""
    assert design.folder is not None
    names = [stream.name for stream in design.streams]
    some = {name: data[part] for name, data in beats.items()}
    run = run_simulation(design.folder, some, probes=names, **options)
    wanted = node_values(graph, [x[part] for x in inputs])
    for stream in design.streams:
        got = _probed(design, stream.name, run)
        result = wanted.get(stream.node)
        if result is None or result.numel() != got.numel():
            continue
        result = result.reshape(got.shape)
        if _first_difference(result, got) is not None:
            raise HardwareError(_mismatch(stream, part.start, result, got))
