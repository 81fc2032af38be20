"""Simulated cycles a second on an emitted folder: `run_simulation` against two cocotb tests.

Both tests drive and compare every beat from Python. "plain" has one coroutine a port and one rising
edge a step, the least that a test can do; "cocotbext-axi" has the drivers of that package, as the
emitted bench. All run the same random bytes on the same Verilator without pauses, in turns, several
times for the given seconds; the best of each counts. Builds and cocotb's start-up are not counted;
our side counts from the arrays of the inputs to those of the outputs, the child's start and files
included. Seconds are those of the processor, so that others on the machine count less. The outputs
must be equal. Without a folder there are three tops with random weights in 8 bits: "every cycle" is
an MLP 16-16-8 with all lanes, which takes a beat in and gives one in each cycle, so that the tests
drive each, and "small" an MLP 8-8-4 likewise; "folded" is the jet-tagging MLP 16-64-32-32-5 at an
interval of 160 cycles, in most of which the tests only wait.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import LogicObject, SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge, gather
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Runner, get_runner
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource

from quire.hardware.emitted import Emitted, Port
from quire.hardware.simulate import LONG_RUN, run_simulation
from quire.hardware.toolchain import verilator_environment

JOB = "QUIRE_BENCHMARK_JOB"  # the folder through which the cocotb test gets its beats


def main() -> None:
    """Measure both and record the figures."""
    from record import record  # it brings torch, which the cocotb test need not load

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, nargs="?", help="what quire.emit wrote")
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--rounds", type=int, default=4)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = {top: Path(name) / top.replace(" ", "_") for top in TOPS}
        folders = made if given.folder is None else {str(given.folder): given.folder}
        for top in TOPS if given.folder is None else ():
            _emit(made[top], *TOPS[top])
        rows = {
            top: _compared(Emitted.read(at), given.seconds, given.rounds)
            for top, at in folders.items()
        }
    record("simulation", rows)


def _compared(emitted: Emitted, seconds: float, rounds: int) -> dict[str, float]:
    """The three rates on one top, and how many times ours is each of the others."""
    ports = (*emitted.inputs, *emitted.outputs)
    with tempfile.TemporaryDirectory() as name:
        bench = _Bench.build(emitted, Path(name))
        ways: dict[str, Way] = {"quire": _Quire(emitted).measure}
        ways |= {test: partial(bench.measure, function) for test, function in TESTS.items()}
        first = 3 + 20_000 // emitted.interval
        samples = {way: _enough(measure, seconds, first) for way, measure in ways.items()}
        turns = [{way: ways[way](samples[way]) for way in ways} for _ in range(rounds)]
    best = {way: max(turn[way][0] / turn[way][1] for turn in turns) for way in ways}
    rates = {f"{way}, cycles/s": round(rate) for way, rate in best.items()}
    ratios = {f"times {test}": round(best["quire"] / best[test], 1) for test in TESTS}
    beats = round(sum(port.beats for port in ports) / emitted.interval, 3)
    return {"beats a cycle": beats, **rates, **ratios}


TOPS = {  # sizes of an MLP, lanes of its layers
    "every cycle": ((16, 16, 8), {"0": (16, 16), "2": (16, 8)}),
    "small": ((8, 8, 4), {"0": (8, 8), "2": (8, 4)}),
    "folded": ((16, 64, 32, 32, 5), {"0": (8, 1), "2": (4, 4), "4": (8, 1), "6": (1, 1)}),
}


def _emit(folder: Path, sizes: tuple[int, ...], lanes: dict[str, tuple[int, int]]) -> None:
    """Emit an MLP in fixed(8,f)."""
    import torch
    from torch import nn

    import quire
    from quire.precision import fit_fixed

    torch.manual_seed(0)
    linears = [nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
    layers = [layer for linear in linears for layer in (linear, nn.ReLU())]
    x = torch.randn(256, sizes[0])
    graph = quire.capture(nn.Sequential(*layers[:-1]).eval(), (x[:8],))
    plan = fit_fixed(graph, (x,), 8)
    plan = plan | fit_fixed(graph, (x,), {"output.0": 8}, ["output.0"])
    fitted = plan.for_hardware(graph, (x,), quiet=True)
    quire.emit(quire.quantize(graph, fitted), folder, lanes)


def _beats(emitted: Emitted, samples: int) -> dict[str, np.ndarray]:
    """Random bytes, small so that they hold no NaN of a minifloat."""
    random = np.random.default_rng(0)
    return {
        port.name: random.integers(0, 64, (samples, port.beats, port.bytes), dtype=np.uint8)
        for port in emitted.inputs
    }


Way = Callable[[int], tuple[int, float]]
"""Simulates so many samples: the cycles, and the seconds of the processor that they took."""


def _enough(measure: Way, seconds: float, samples: int) -> int:
    """So many samples, `samples` or more, that they take at least `seconds`."""
    while True:
        _, taken = measure(samples)
        if taken >= seconds:
            return samples
        samples = int(samples * min(20.0, max(1.5, 1.2 * seconds / max(taken, 0.01))))


@dataclass(frozen=True)
class _Quire:
    emitted: Emitted

    def measure(self, samples: int) -> tuple[int, float]:
        samples += (
            LONG_RUN // self.emitted.interval
        )  # at least that, for the simulator of long runs
        inputs = _beats(self.emitted, samples)
        start = sum(os.times()[:4])  # of this process and its children
        run = run_simulation(self.emitted.folder, inputs)
        return run.cycles, sum(os.times()[:4]) - start


@dataclass(frozen=True)
class _Bench:
    """A top that cocotb has built."""

    emitted: Emitted
    job: Path
    runner: Runner

    @classmethod
    def build(cls, emitted: Emitted, job: Path) -> _Bench:
        os.environ.update(verilator_environment())
        settings = {"CFG_CXXFLAGS_PCH_I": "-include", "CFG_LDLIBS_THREADS": "-pthread"}
        settings |= {"PYTHON3": sys.executable, "OPT_FAST": "-O3", "OPT_GLOBAL": "-O2"}
        os.environ["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in settings.items())
        runner = get_runner("verilator")
        runner.build(
            sources=[emitted.folder / source for source in emitted.sources],
            hdl_toplevel=emitted.top,
            build_dir=job / "build",
            build_args=["-O3", "--x-assign", "fast", "-Wno-fatal"],
            log_file=job / "build.log",
        )
        return cls(emitted, job, runner)

    def measure(self, test: str, samples: int) -> tuple[int, float]:
        """From the end of the test's reset to its last beat."""
        return _cocotb_run(self.runner, self.emitted, self.job, test, samples)


def _cocotb_run(
    runner: Runner, emitted: Emitted, job: Path, test: str, samples: int
) -> tuple[int, float]:
    inputs = _beats(emitted, samples)
    expected = run_simulation(emitted.folder, inputs).outputs
    np.savez(
        job / "beats.npz",
        **{f"in_{k}": v for k, v in inputs.items()},
        **{f"out_{k}": v for k, v in expected.items()},
    )
    results = runner.test(
        hdl_toplevel=emitted.top,
        test_module="simulation",
        testcase=test,
        build_dir=job / "build",
        test_dir=emitted.folder,
        results_xml=str(job / "results.xml"),
        log_file=job / "test.log",
        extra_env={JOB: str(job), "FOLDER": str(emitted.folder), "COCOTB_LOG_LEVEL": "WARNING"},
    )
    total, failed = get_results(Path(results))
    if total != 1 or failed:
        raise SystemExit(f"the cocotb test failed: {results}")
    cycles, taken = (job / "taken.txt").read_text().split()
    return int(cycles), float(taken)


class _Job:
    """What a test is given, and the clock and reset of its top."""

    def __init__(self, dut: SimHandleBase) -> None:
        self.folder = Path(os.environ[JOB])
        self.emitted = Emitted.read(Path(os.environ["FOLDER"]))
        self.dut = dut
        self.beats = np.load(self.folder / "beats.npz")
        Clock(dut.aclk, 10, unit="ns").start()

    async def reset(self) -> None:
        """Eight cycles; the time counts from their end."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 8)
        self.dut.aresetn.value = 1
        self.start, self.first = time.process_time(), cocotb.simtime.get_sim_time("ns")

    def done(self) -> None:
        """The cycles and seconds go to the process that asked for them."""
        cycles = round((cocotb.simtime.get_sim_time("ns") - self.first) / 10)
        taken = time.process_time() - self.start
        (self.folder / "taken.txt").write_text(f"{cycles} {taken}")


TESTS = {"plain": "every_beat", "cocotbext-axi": "every_frame"}


@cocotb.test()
async def every_beat(dut: SimHandleBase) -> None:
    """Drive every port of the top beat by beat and compare every output."""
    job = _Job(dut)
    for port in job.emitted.inputs:
        getattr(dut, f"{port.port}_tvalid").value = 0
    await job.reset()
    sending = [_send(dut, port, job.beats[f"in_{port.name}"]) for port in job.emitted.inputs]
    taking = [_take(dut, port, job.beats[f"out_{port.name}"]) for port in job.emitted.outputs]
    await gather(*sending, *taking)
    job.done()


@cocotb.test()
async def every_frame(dut: SimHandleBase) -> None:
    """The same by a source and a sink of cocotbext-axi at each port, a sample in a frame."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)  # it prints every frame
    job = _Job(dut)
    sources = [(_driver(dut, AxiStreamSource, port), port) for port in job.emitted.inputs]
    sinks = [(_driver(dut, AxiStreamSink, port), port) for port in job.emitted.outputs]
    await job.reset()
    for source, port in sources:
        for sample in job.beats[f"in_{port.name}"]:
            source.send_nowait(sample.tobytes())
    for sink, port in sinks:
        for sample in job.beats[f"out_{port.name}"]:
            assert bytes((await sink.recv()).tdata) == sample.tobytes()
    job.done()


def _driver(dut: SimHandleBase, kind: Any, port: Port) -> Any:
    bus = AxiStreamBus.from_prefix(dut, port.port)
    return kind(bus, dut.aclk, dut.aresetn, reset_active_level=False)


def _words(port: Port, beats: np.ndarray) -> list[int]:
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats.reshape(-1, port.bytes)]


async def _send(dut: SimHandleBase, port: Port, beats: np.ndarray) -> None:
    data, valid, ready, last = _wires(dut, port)
    edge = RisingEdge(dut.aclk)
    for index, word in enumerate(_words(port, beats)):
        data.value = word
        last.value = (index + 1) % port.beats == 0
        valid.value = 1
        await edge
        while not ready.value:
            await edge
    valid.value = 0


async def _take(dut: SimHandleBase, port: Port, beats: np.ndarray) -> None:
    data, valid, ready, _ = _wires(dut, port)
    edge = RisingEdge(dut.aclk)
    ready.value = 1
    for word in _words(port, beats):
        await edge
        while not valid.value:
            await edge
        assert data.value.to_unsigned() == word


def _wires(dut: SimHandleBase, port: Port) -> list[LogicObject]:
    return [getattr(dut, f"{port.port}_{wire}") for wire in ("tdata", "tvalid", "tready", "tlast")]


if __name__ == "__main__":
    main()
