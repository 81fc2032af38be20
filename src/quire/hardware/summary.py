"""A design as plain data for a page: dataflow, predicted cycles, estimated and measured figures.

The layout is the docstring of `quire.report.design`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quire.hardware.cost import estimate
from quire.hardware.design import Design, Stage
from quire.hardware.run import TIMED, Run
from quire.hardware.stream import Stream
from quire.hardware.synth import Synthesis
from quire.hardware.timing import departures, taken

VERSION = 2

MOST_BEATS = 200
"""Beats of a sample that are listed one by one; of more, the first and the last."""


def summary(
    design: Design, run: Run | None = None, synthesis: Synthesis | None = None
) -> dict[str, Any]:
    """What `quire.report.design_page` draws. run, synthesis: what was measured, if it was."""
    times = beat_times(design, TIMED)
    return {
        "quire_design": VERSION,
        "name": design.name,
        "latency": design.latency,
        "interval": design.interval,
        "bottleneck": design.bottleneck,
        "inputs": [stream.name for stream in design.inputs],
        "outputs": [stream.name for stream in design.outputs],
        "stages": [_stage(stage) for stage in design.stages],
        "streams": [{**_stream(s), "times": _spans(times[s.name])} for s in design.streams],
        "estimated": {layer: asdict(used) for layer, used in estimate(design).items()},
        "measured": None if run is None else measured(run),
        "synthesis": None if synthesis is None else synthesised(synthesis),
    }


def measured(run: Run) -> dict[str, Any]:
    """The figures of a simulation, as plain data."""
    return {
        "samples": len(run.output),
        "cycles": run.cycles,
        "latency": run.latency,
        "interval": run.interval,
        "compared": run.compared,
        "traffic": {name: asdict(traffic) for name, traffic in run.traffic.items()},
        "times": {name: _spans(times) for name, times in run.times.items()},
    }


def synthesised(synthesis: Synthesis) -> dict[str, Any]:
    """The figures of a synthesis, as plain data."""
    return {
        "target": synthesis.target,
        "layers": {layer: asdict(used) for layer, used in synthesis.layers.items()},
        "frequency_mhz": synthesis.frequency_mhz,
        "tools": dict(synthesis.tools),
    }


def beat_times(design: Design, samples: int) -> dict[str, list[list[int]]]:
    """{stream: for each sample the predicted cycles in which its beats move}.

    As in a simulation sample 0 runs alone, its first beat accepted in cycle 0. The next one follows
    when its last beat is out, and then one each `interval` cycles, a beat a cycle.
    """
    starts = [1, *(2 + design.latency + design.interval * n for n in range(samples - 1))]
    leaves = {s.name: [t + beat for t in starts for beat in range(s.beats)] for s in design.inputs}
    for stage in design.stages:
        times = departures(stage.steps, [leaves[stream.name] for stream in stage.reads])
        leaves.update({stream.name: times for stream in stage.writes})
    moves = dict(leaves)
    for stage in design.stages:
        names = [stream.name for stream in stage.reads]
        times = taken(stage.steps, [leaves[name] for name in names])
        moves.update(zip(names, times, strict=True))
    return {s.name: _by_sample(moves[s.name], s.beats) for s in design.streams}


def _by_sample(times: list[int], beats: int) -> list[list[int]]:
    return [times[i : i + beats] for i in range(0, len(times), beats)]


def _spans(times: list[list[int]]) -> list[list[int]]:
    """The beats of each sample, or where they are many the first and the last."""
    return [beats if len(beats) <= MOST_BEATS else [beats[0], beats[-1]] for beats in times]


def _stage(stage: Stage) -> dict[str, Any]:
    parameters = [dict(i.parameters) for i in stage.instances if i.cell == "quire_fifo"]
    return {
        "name": stage.name,
        "kind": stage.kind,
        "detail": stage.detail,
        "reads": [stream.name for stream in stage.reads],
        "writes": [stream.name for stream in stage.writes],
        "interval": stage.interval,
        "queues": [int(given["DEPTH"]) for given in parameters],
    }


def _stream(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "values": str(stream.values),
        "shape": list(stream.shape),
        "lanes": stream.lanes,
        "beats": stream.beats,
        "bits": stream.beat_bits,
    }
