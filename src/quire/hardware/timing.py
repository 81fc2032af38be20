"""When beats move: a model of each step of a pipeline, in cycles, without stalls from outside.

A step maps the times at which beats arrive to the times at which beats leave.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

Times = list[int]


@dataclass(frozen=True)
class Step:
    """One clocked part of a stage. kind: a key of `STEPS`; numbers: its arguments."""

    kind: str
    numbers: tuple[int, ...]


def departures(steps: Sequence[Step], arrivals: Sequence[Times]) -> Times:
    """The times at which the beats of a sample leave a chain of steps.

    arrivals: of each stream that the chain reads. Several meet beat by beat, or as the first step
    says if it is one of `MEETINGS`.
    """
    if steps and steps[0].kind in MEETINGS:
        times = MEETINGS[steps[0].kind](arrivals, *steps[0].numbers)
        steps = steps[1:]
    else:
        times = joined(arrivals)
    for step in steps:
        times = STEPS[step.kind](times, *step.numbers)
    return times


def joined(arrivals: Sequence[Times]) -> Times:
    """When beats of several streams move that move together."""
    return [max(times) for times in zip(*arrivals, strict=True)]


def last_values(taken: Times, lanes: int, rows: int, wide: int, row: int) -> Times:
    """When the last value of each beat of `wide` lanes is taken, where the beats of `lanes` values
    that they become are taken at `taken`; for rows of `row` values."""
    narrow = -(-row // lanes)
    return [
        taken[first + (min(place + wide, row) - 1) // lanes]
        for first in range(0, rows * narrow, narrow)
        for place in range(0, row, wide)
    ]


def queue_depth(arrivals: Times, taken: Times, interval: int) -> int:
    """Beats that wait at most where beats come at `arrivals` and go at `taken`.

    The times are of one sample; one like it follows each `interval` cycles. A beat that goes as it
    comes counts too.
    """
    return max(sum((now - t) // interval + 1 for t in arrivals) - i for i, now in enumerate(taken))


def taken(steps: Sequence[Step], arrivals: Sequence[Times]) -> list[Times]:
    """The times at which a chain of steps takes the beats of each stream that it reads."""
    kind, numbers = (steps[0].kind, steps[0].numbers) if steps else ("", ())
    if kind in TURNS:
        return TURNS[kind](arrivals, *numbers)
    together = joined(arrivals)
    return [TAKES[kind](together, *numbers) if kind in TAKES else together for _ in arrivals]


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


def _all_groups(arrivals: Times, beats: int, groups: int, depth: int) -> Times:
    """A beat is taken with the last group that it meets."""
    out: Times = []
    for t in arrivals:
        out.append(max(t, out[-1] + 1 if out else t) + groups - 1)
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


def _regrouped(moved: Times, counts: Sequence[int], rows: int, lanes: int, row: int) -> Times:
    """Beats whose `counts` of values move at `moved`, packed into `rows` rows of other beats.

    A beat leaves a cycle after the last value that it needs, one a cycle.
    """
    values = [t for t, count in zip(moved, counts, strict=True) for _ in range(count)]
    out: Times = []
    free = 0
    for first in range(0, rows * row, row):
        for place in range(0, row, lanes):
            last = first + min(place + lanes, row) - 1
            out.append(max(values[last] + 1, free))
            free = out[-1] + 1
    return out


def _counts(rows: int, lanes: int, row: int) -> list[int]:
    """How many values each beat of some rows has."""
    return [min(lanes, row - place) for _ in range(rows) for place in range(0, row, lanes)]


def _repack(arrivals: Times, in_lanes: int, in_row: int, out_lanes: int, out_row: int) -> Times:
    rows = len(arrivals) // -(-in_row // in_lanes)
    counts = _counts(rows, in_lanes, in_row)
    return _regrouped(arrivals, counts, rows * in_row // out_row, out_lanes, out_row)


def _convert(arrivals: Times, in_lanes: int, out_lanes: int, row: int) -> Times:
    return _repack(arrivals, in_lanes, row, out_lanes, row)


def in_turns(arrivals: Sequence[Times], lanes_out: int, *sizes: int) -> list[Times]:
    """When the beats of several streams are taken of which a row of each is packed in turn.

    sizes: the lanes and the row of each stream. A beat waits for the one before it, and until the
    packer (`quire_gearbox`) has room, which fills and empties by a beat a cycle.
    """
    lanes, rows = sizes[::2], sizes[1::2]
    most, unit = max(lanes), gcd(lanes_out, *sizes)
    uneven = most % lanes_out != 0 and lanes_out % most != 0
    room = lanes_out + min(most, lanes_out) - unit + unit * uneven
    turn = [_counts(1, n, row) for n, row in zip(lanes, rows, strict=True)]
    waiting = [iter(times) for times in arrivals]
    moved: list[Times] = [[] for _ in arrivals]
    packer = _Packer(lanes_out, sum(rows))
    for _ in range(len(arrivals[0]) // len(turn[0])):
        for times, took, counts in zip(waiting, moved, turn, strict=True):
            for count in counts:
                took.append(packer.push(next(times), count, room))
    return moved


class _Packer:
    """How many values a packer holds, cycle by cycle, where nobody waits behind it."""

    def __init__(self, lanes: int, row: int) -> None:
        self._beats = _counts(1, lanes, row)
        self._sent = self._now = self._held = 0

    def push(self, arrival: int, count: int, room: int) -> int:
        """The cycle in which a beat of `count` values is taken: at most `room` are held then."""
        while self._now < arrival and self._held >= self._needed:
            self._step()
        self._now = max(self._now, arrival)
        while self._held > room:
            self._step()
        self._step()
        self._held += count
        return self._now - 1

    @property
    def _needed(self) -> int:
        """Values of the next beat that leaves."""
        return self._beats[self._sent % len(self._beats)]

    def _step(self) -> None:
        self._now += 1
        if self._held >= self._needed:
            self._held -= self._needed
            self._sent += 1


def _concat(arrivals: Sequence[Times], lanes_out: int, *sizes: int) -> Times:
    """sizes: the lanes and the row of each stream."""
    lanes, rows = sizes[::2], sizes[1::2]
    taken = in_turns(arrivals, lanes_out, *sizes)
    turns = len(arrivals[0]) // -(-rows[0] // lanes[0])
    each = [_counts(turns, n, row) for n, row in zip(lanes, rows, strict=True)]
    moves = sorted(
        (t, count)
        for times, counts in zip(taken, each, strict=True)
        for t, count in zip(times, counts, strict=True)
    )
    moved, counts = [t for t, _ in moves], [count for _, count in moves]
    return _regrouped(moved, counts, turns, lanes_out, sum(rows))


STEPS: dict[str, Callable[..., Times]] = {
    "delay": _delay,
    "input-major": _input_major,
    "output-major": _output_major,
    "block": _block,
    "convert": _convert,
    "repack": _repack,
}


def most_waiting(arrivals: Times, cycles: int) -> int:
    """The most beats that are there at once before a step that takes each in `cycles` cycles, one
    after the other."""
    gone: Times = []
    free = 0
    for t in arrivals:
        free = max(t, free) + cycles
        gone.append(free)
    return max(i + 1 - bisect_right(gone, t) for i, t in enumerate(arrivals))


SAMPLES = 8
"""Samples after which the delays of one another have settled."""

PASSES_READY = ("delay", "input-major", "convert")
"""Steps through which ready may pass in the same cycle."""

MEETINGS: dict[str, Callable[..., Times]] = {"concat": _concat}
"""Steps that several streams enter otherwise than beat by beat."""

TURNS: dict[str, Callable[..., list[Times]]] = {"concat": in_turns}
"""Steps that take some beats of each stream in turn, and when."""

TAKES: dict[str, Callable[..., Times]] = {"input-major": _all_groups}
"""Steps that take a beat later than it is there."""
