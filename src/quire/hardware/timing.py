"""When beats move: a model of each step of a pipeline, in cycles, without stalls from outside.

A step maps the times at which beats arrive to the times at which beats leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Times = list[int]


@dataclass(frozen=True)
class Step:
    """One clocked part of a stage. kind: a key of `STEPS`; numbers: its arguments."""

    kind: str
    numbers: tuple[int, ...]


def departures(steps: Sequence[Step], arrivals: Times) -> Times:
    """The times at which the beats of a sample leave a chain of steps."""
    for step in steps:
        arrivals = STEPS[step.kind](arrivals, *step.numbers)
    return arrivals


def _delay(arrivals: Times, cycles: int) -> Times:
    return [t + cycles for t in arrivals]


def _input_major(arrivals: Times, beats: int, groups: int, depth: int) -> Times:
    """Each beat meets all groups; the sums leave with the last beat of the row."""
    out: Times = []
    free = 0
    for i, t in enumerate(arrivals):
        start = max(t, free)
        free = start + groups
        if (i + 1) % beats == 0:
            out += [start + g + depth for g in range(groups)]
    return out


def _output_major(arrivals: Times, beats: int, groups: int, depth: int) -> Times:
    """A row is kept whole; a sum leaves every `beats` cycles."""
    out: Times = []
    free = 0
    for last in arrivals[beats - 1 :: beats]:
        start = max(last + 1, free)
        free = start + beats * groups
        out += [start + (g + 1) * beats - 1 + depth for g in range(groups)]
    return out


def _block(arrivals: Times, block_beats: int, row_beats: int) -> Times:
    """A block leaves when its last beat was measured."""
    out: Times = []
    free = 0
    for row in range(0, len(arrivals), row_beats):
        for first in range(row, row + row_beats, block_beats):
            block = arrivals[first : min(first + block_beats, row + row_beats)]
            start = max(block[-1] + 3, free)
            out += [start + i for i in range(len(block))]
            free = start + len(block)
    return out


def _convert(arrivals: Times, in_lanes: int, out_lanes: int, row: int) -> Times:
    """A beat leaves a cycle after the last value that it needs, one a cycle."""
    in_beats, out_beats = -(-row // in_lanes), -(-row // out_lanes)
    out: Times = []
    free = 0
    for first in range(0, len(arrivals), in_beats):
        for beat in range(out_beats):
            needed = (min((beat + 1) * out_lanes, row) - 1) // in_lanes
            leaves = max(arrivals[first + needed] + 1, free)
            out.append(leaves)
            free = leaves + 1
    return out


STEPS: dict[str, Callable[..., Times]] = {
    "delay": _delay,
    "input-major": _input_major,
    "output-major": _output_major,
    "block": _block,
    "convert": _convert,
}
