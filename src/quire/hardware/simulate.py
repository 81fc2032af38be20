"""Simulate an emitted folder: bytes in, bytes out, and what it took in cycles.

The top is compiled by Verilator (`verilate.py`) and driven by `harness.cpp` in a child process. Its
working directory is the folder, where it finds the memory files; if it crashes, Python does not.
"""

from __future__ import annotations

import operator
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from quire.errors import HardwareError
from quire.hardware.emitted import Emitted
from quire.hardware.toolchain import excerpt, failure
from quire.hardware.verilate import CHECKED, FAST, QUICK, Build, build_simulator

Beats = NDArray[np.uint8]

LONG_RUN = 300_000
"""Cycles from which on a simulator that runs fast is worth the longer build."""

CHECKED_FIRST = 2_000
"""Cycles of a long run, about, that a simulator with assertions runs before one without them."""


@dataclass(frozen=True)
class Stalls:
    """How likely each side is to pause in a cycle, from 0 to below 1.

    A paused source presents no new beat (one that it presents stays); a paused sink is not ready.
    """

    sources: float = 0.0
    sinks: float = 0.0

    def __post_init__(self) -> None:
        sides: tuple[tuple[str, object], ...] = (("sources", self.sources), ("sinks", self.sinks))
        for side, probability in sides:
            is_number = isinstance(probability, Real) and not isinstance(probability, bool)
            if not is_number or not 0 <= probability < 1:
                raise HardwareError(f"stalls of {side} are {probability!r}: give 0 to below 1")

    @classmethod
    def of(cls, given: object) -> Stalls:
        """From what `simulate` takes: None, a number for both sides, a pair, or Stalls."""
        match given:
            case Stalls():
                return given
            case None:
                return cls()
            case (sources, sinks):
                return cls(sources, sinks)
            case Real():
                return cls(float(given), float(given))
            case _:
                raise HardwareError(
                    f"stalls={given!r}: give how likely a pause is in a cycle, from 0 to below 1, "
                    "as one number for both sides, (sources, sinks) or quire.hardware.Stalls"
                )

    def __bool__(self) -> bool:
        return self.sources > 0 or self.sinks > 0


@dataclass(frozen=True)
class Traffic:
    """What moved on a stream or port, in cycles.

    `beats` counts the whole run; `stalls` (valid without ready) and `starved` (ready without valid)
    count the cycles after sample 0, while samples follow one another.
    """

    beats: int
    stalls: int
    starved: int


@dataclass(frozen=True)
class SimulationRun:
    """The result of a simulation.

    Attributes:
        outputs: for each output the bytes of its beats, uint8 (samples, beats, bytes).
        latency: of sample 0, sent alone and without stalls: cycles from the one in which its first
            input beat is accepted to the one in which its last output beat is (a register: 1).
        ends: for each sample the cycle of its last output beat, uint64 (samples,).
        cycles: all that were simulated up to the last beat, reset included.
        streams: for each port (by its prefix) and each stream inside the top, what moved on it.
        probes: for each probed stream the bytes of its beats in order, uint8 (beats, bytes).
        times: for each timed stream the cycles in which its first beats moved, uint64 (beats,);
            cycle 0 is the one in which the first input beat of sample 0 is accepted.
    """

    outputs: dict[str, Beats]
    latency: int
    ends: NDArray[np.uint64]
    cycles: int
    streams: dict[str, Traffic]
    probes: dict[str, Beats]
    times: dict[str, NDArray[np.uint64]]

    @property
    def interval(self) -> float | None:
        """Cycles between samples in the later half of the run, where it is steady.

        None for fewer than three samples, of which sample 0 runs alone.
        """
        half = len(self.ends) // 2
        if len(self.ends) < 3:
            return None
        return float(self.ends[-1] - self.ends[half]) / (len(self.ends) - 1 - half)


@dataclass(frozen=True, init=False)
class Waveform:
    """Write a VCD file of the last `cycles` cycles of a run, or of its failure."""

    path: Path
    cycles: int

    def __init__(self, path: str | os.PathLike[str], cycles: int = 200) -> None:
        named: object = path
        if not isinstance(named, str | os.PathLike):
            raise HardwareError(f"a waveform at {named!r}: give the path of a file")
        number: object = cycles
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise HardwareError(f"a waveform of {number!r} cycles: give a whole number, 1 or more")
        object.__setattr__(self, "path", Path(path))
        object.__setattr__(self, "cycles", cycles)

    @classmethod
    def of(cls, given: str | os.PathLike[str] | Waveform | None) -> Waveform | None:
        """From what `simulate` takes: None, a path, or a Waveform."""
        return given if given is None or isinstance(given, Waveform) else cls(given)

    def make_folder(self) -> None:
        """The folder of the file; HardwareError where it cannot hold one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HardwareError(f"no waveform can be written to '{self.path}': {error}") from None
        if self.path.is_dir():
            raise HardwareError(f"the waveform's path '{self.path}' is a folder: name a file")


@dataclass(frozen=True)
class _Report:
    """What the harness writes to report.txt."""

    cycles: int = 0
    first: int = 0
    failure: str = ""
    streams: dict[str, Traffic] = field(default_factory=dict[str, Traffic])

    @classmethod
    def read(cls, path: Path) -> _Report:
        values: dict[str, str] = {}
        streams: dict[str, Traffic] = {}
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "stream":
                name, *counts = value.split()
                streams[name] = Traffic(*map(int, counts))
            values[key] = value
        first = int(values.get("first", 0))
        return cls(int(values["cycles"]), first, values.get("failure", ""), streams)


def run_simulation(
    folder: Path,
    inputs: Mapping[str, Beats],
    *,
    stalls: Stalls | None = None,
    seed: int = 0,
    probes: Sequence[str] = (),
    timed: Mapping[str, int] | None = None,
    waveform: Waveform | None = None,
    patience: int = 100_000,
    interrupt: int = 0,
    progress: bool = False,
) -> SimulationRun:
    """Drive the top of an emitted folder with the beats of whole samples.

    `inputs` has for each input of the manifest uint8 (samples, beats, bytes). Sample 0 runs alone,
    then the others follow one another; `stalls` pause both sides at random by `seed`. `probes`
    names streams inside the top; `timed` says of how many first beats of a stream inside the cycles
    are kept. `interrupt` first sends beats for so many cycles and then resets the top for two,
    which must drop them. `progress` shows a bar on stderr.

    A run of LONG_RUN cycles or more without pauses, probes, waveform and interrupt checks the
    assertions of the cells in its first cycles only, and then takes a simulator without them.

    Raises HardwareError for inputs that do not fit, a missing tool, a failed build, a memory file
    that is missing or short, a failed assertion, a wrong `tlast`, a raised `error`, a surplus beat,
    and when no beat has moved for `patience` cycles; the message then names the stuck streams.
    """
    emitted = Emitted.read(folder)
    samples = _check_inputs(emitted, inputs)
    timed = timed or {}
    _check_streams(emitted, [*probes, *timed])
    if waveform:
        waveform.make_folder()
    pauses = stalls or Stalls()
    settings = {
        "samples": samples,
        "seed": _seed(seed) % 2**64,
        "stalls": f"{pauses.sources} {pauses.sinks}",
        "interrupt": interrupt,
        "patience": patience,
    }
    work = _Work(emitted, inputs, settings, probes, timed, waveform)
    build = build_of(samples * emitted.interval, bool(pauses or probes or waveform or interrupt))
    if build is FAST:
        first = max(1, CHECKED_FIRST // emitted.interval)
        work.part(min(first, samples)).run(QUICK)
    return work.run(build, progress)


def build_of(cycles: int, looks: bool) -> Build:
    """Which simulator runs so many cycles; `looks`: whether a run is watched more closely."""
    if cycles < LONG_RUN:
        return QUICK
    return CHECKED if looks else FAST


def _seed(seed: int) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise HardwareError(f"seed={seed!r}: give a whole number") from None


@dataclass(frozen=True)
class _Work:
    """What a simulator is to do."""

    emitted: Emitted
    inputs: Mapping[str, Beats]
    settings: Mapping[str, object]
    probes: Sequence[str]
    timed: Mapping[str, int]
    waveform: Waveform | None

    def part(self, samples: int) -> _Work:
        """The same for the first samples only."""
        inputs = {name: beats[:samples] for name, beats in self.inputs.items()}
        return replace(self, inputs=inputs, settings={**self.settings, "samples": samples})

    def run(self, build: Build, progress: bool = False) -> SimulationRun:
        """Do it; HardwareError if the harness reports a failure."""
        simulator = build_simulator(self.emitted, build, waveform=self.waveform is not None)
        with tempfile.TemporaryDirectory(prefix="quire-") as name:
            job = Path(name)
            for index, port in enumerate(self.emitted.inputs):
                np.ascontiguousarray(self.inputs[port.name]).tofile(job / f"in{index}.bin")
            text = _job(self.emitted, self.settings, self.probes, self.timed)
            (job / "job.txt").write_text(text)
            samples = len(self.inputs[self.emitted.inputs[0].name])
            with _Bar(samples, progress) as bar:
                report = _drive(simulator, self.emitted, job, bar)
            if self.waveform:
                _write_waveform(simulator, self.emitted, job, report, self.waveform)
            if report.failure:
                said = f"{report.failure}{_said(self.emitted)}"
                raise HardwareError(f"Simulation of '{self.emitted.top}': {said}")
            return _collect(self.emitted, job, report, samples, self.probes, self.timed)


def _check_inputs(emitted: Emitted, inputs: Mapping[str, Beats]) -> int:
    """The number of samples; HardwareError unless every input has that many of its shape."""
    names = {port.name for port in emitted.inputs}
    if set(inputs) != names:
        raise HardwareError(f"inputs are {sorted(inputs)}; '{emitted.top}' has {sorted(names)}")
    samples = {len(beats) for beats in inputs.values()}
    if len(samples) != 1 or samples == {0}:
        raise HardwareError(f"inputs have {sorted(samples)} samples: give each the same, 1 or more")
    for port in emitted.inputs:
        beats = inputs[port.name]
        if beats.dtype != np.uint8 or beats.shape[1:] != (port.beats, port.bytes):
            raise HardwareError(
                f"input '{port.name}' is {beats.dtype} {beats.shape}: "
                f"give uint8 (samples, {port.beats}, {port.bytes})"
            )
    return samples.pop()


def _check_streams(emitted: Emitted, names: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(emitted.streams))
    if unknown:
        raise HardwareError(f"no stream {unknown} in '{emitted.top}': {sorted(emitted.streams)}")


def _job(
    emitted: Emitted,
    settings: Mapping[str, object],
    probes: Sequence[str],
    timed: Mapping[str, int],
) -> str:
    """job.txt, as harness.cpp reads it."""
    lines = [f"{key} {value}" for key, value in {"top": emitted.top, **settings}.items()]
    lines += [f"source {port.port} {port.beats} {port.bytes}" for port in emitted.inputs]
    lines += [f"sink {port.port} {port.beats} {port.bytes}" for port in emitted.outputs]
    lines += [f"stream {s} {int(s in probes)} {timed.get(s, 0)}" for s in emitted.streams]
    return "\n".join([*lines, ""])


def _drive(simulator: Path, emitted: Emitted, job: Path, bar: _Bar) -> _Report:
    """Run the harness on a job; HardwareError if it ends without a report."""
    log = emitted.log("simulate")
    log.parent.mkdir(exist_ok=True)
    (job / "report.txt").unlink(missing_ok=True)
    command = [simulator, job]
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command,
            cwd=emitted.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if not bar.show(line):
                    sink.write(line)
        except BaseException:
            child.kill()
            raise
    if not (job / "report.txt").is_file():
        raise HardwareError(failure(f"Simulation of '{emitted.top}'", child.returncode, log))
    return _Report.read(job / "report.txt")


def _write_waveform(
    simulator: Path, emitted: Emitted, job: Path, report: _Report, waveform: Waveform
) -> None:
    """Run the job once more, which repeats every cycle, and keep the last ones."""
    start = max(0, report.cycles - waveform.cycles)
    with (job / "job.txt").open("a") as file:
        file.write(f"trace {start}\n")
    with _Bar(1, False) as bar:
        _drive(simulator, emitted, job, bar)
    if (job / "wave.vcd").is_file():  # not if the top lacks a wire
        waveform.path.write_bytes((job / "wave.vcd").read_bytes())


def _said(emitted: Emitted) -> str:
    """What the model printed, after a failure."""
    said = excerpt(emitted.log("simulate"))
    return f"\n{said}" if said else ""


def _collect(
    emitted: Emitted,
    job: Path,
    report: _Report,
    samples: int,
    probes: Sequence[str],
    timed: Mapping[str, int],
) -> SimulationRun:
    outputs = {
        port.name: np.fromfile(job / f"out{index}.bin", np.uint8).reshape(
            samples, port.beats, port.bytes
        )
        for index, port in enumerate(emitted.outputs)
    }
    seen = {
        stream: np.fromfile(job / f"probe{index}.bin", np.uint8)
        for index, stream in enumerate(emitted.streams)
        if stream in probes
    }
    times = {
        stream: np.fromfile(job / f"times{index}.bin", np.uint64) - np.uint64(report.first)
        for index, stream in enumerate(emitted.streams)
        if timed.get(stream)
    }
    ends = np.fromfile(job / "ends.bin", np.uint64)
    return SimulationRun(
        outputs,
        int(ends[0]) - report.first,
        ends,
        report.cycles,
        report.streams,
        {name: seen[name].reshape(report.streams[name].beats, -1) for name in probes},
        times,
    )


class _Bar:
    """The progress bar of a run: a context manager fed with the harness's lines."""

    def __init__(self, samples: int, on: bool) -> None:
        self._progress = Progress(
            TextColumn("simulate"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("samples, {task.fields[cycles]} cycles"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            disable=not on,
        )
        self._task = self._progress.add_task("", total=samples, cycles="0")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, line: str) -> bool:
        """Whether a line of the harness says how far it is; if so, redraw."""
        match line.split():
            case ["progress", samples, cycles]:
                shown = f"{int(cycles):,}"
                self._progress.update(self._task, completed=int(samples), cycles=shown)
                return True
            case _:
                return False
