"""Simulated cycles a second on an emitted folder: `run_simulation` against a cocotb test.

The cocotb test drives and compares every beat from Python: one coroutine a port, one rising edge a
step. Both run the same random bytes on the same Verilator without pauses, until each has taken the
given seconds; builds and cocotb's start-up are not counted. Seconds are those of the processor, so
that others on the machine do not count. The outputs must be equal. Without a folder there are two
tops with random weights in 8 bits: "every cycle" is an MLP 16-16-8 with all lanes, which takes a
beat in and gives one in each cycle, so that the test drives each; "folded" is the jet-tagging MLP
16-64-32-32-5 at an interval of 160 cycles, in most of which the test only waits.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import LogicObject, SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge, gather
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Runner, get_runner

from quire.hardware.emitted import Emitted, Port
from quire.hardware.simulate import LONG_RUN, run_simulation
from quire.hardware.toolchain import verilator_environment

JOB = "QUIRE_BENCHMARK_JOB"  # the folder through which the cocotb test gets its beats


def main() -> None:
    """Measure both and record the figures."""
    from record import record  # it brings torch, which the cocotb test need not load

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, nargs="?", help="what quire.emit wrote")
    options.add_argument("--seconds", type=float, default=5.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = {top: Path(name) / top.replace(" ", "_") for top in TOPS}
        folders = made if given.folder is None else {str(given.folder): given.folder}
        for top in TOPS if given.folder is None else ():
            _emit(made[top], *TOPS[top])
        rows = {top: _compared(Emitted.read(at), given.seconds) for top, at in folders.items()}
    record("simulation", rows)


def _compared(emitted: Emitted, seconds: float) -> dict[str, float]:
    """Both rates on one top."""
    quire, cocotb_rate = _quire(emitted, seconds), _cocotb(emitted, seconds)
    ports = (*emitted.inputs, *emitted.outputs)
    return {
        "beats a cycle": round(sum(port.beats for port in ports) / emitted.interval, 3),
        "quire, cycles/s": round(quire),
        "cocotb, cycles/s": round(cocotb_rate),
        "ratio": round(quire / cocotb_rate, 1),
    }


TOPS = {  # sizes of an MLP, lanes of its layers
    "every cycle": ((16, 16, 8), {"0": (16, 16), "2": (16, 8)}),
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


def _rate(measure: Callable[[int], tuple[int, float]], seconds: float, samples: int = 3) -> float:
    """Cycles a second of a run that takes at least `seconds`; measure(samples): cycles, seconds."""
    while True:
        cycles, taken = measure(samples)
        if taken >= seconds:
            return cycles / taken
        samples = int(samples * min(20.0, max(1.5, 1.2 * seconds / max(taken, 0.01))))


def _quire(emitted: Emitted, seconds: float) -> float:
    """Cycles a second, from reading the folder to the arrays of the outputs."""

    def measure(samples: int) -> tuple[int, float]:
        inputs = _beats(emitted, samples)
        start = sum(os.times()[:4])  # of this process and its children
        run = run_simulation(emitted.folder, inputs)
        return run.cycles, sum(os.times()[:4]) - start

    long = LONG_RUN // emitted.interval + 1
    measure(long)  # builds the simulator of long runs
    return _rate(measure, seconds, long)


def _cocotb(emitted: Emitted, seconds: float) -> float:
    """Cycles a second of the cocotb test, from its reset to its last beat."""
    os.environ.update(verilator_environment())
    runner = get_runner("verilator")
    settings = {"CFG_CXXFLAGS_PCH_I": "-include", "CFG_LDLIBS_THREADS": "-pthread"}
    settings |= {"PYTHON3": sys.executable, "OPT_FAST": "-O3", "OPT_GLOBAL": "-O2"}
    os.environ["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in settings.items())
    with tempfile.TemporaryDirectory() as name:
        job = Path(name)
        runner.build(
            sources=[emitted.folder / source for source in emitted.sources],
            hdl_toplevel=emitted.top,
            build_dir=job / "build",
            build_args=["-O3", "--x-assign", "fast", "-Wno-fatal"],
            log_file=job / "build.log",
        )
        return _rate(lambda samples: _cocotb_run(runner, emitted, job, samples), seconds)


def _cocotb_run(runner: Runner, emitted: Emitted, job: Path, samples: int) -> tuple[int, float]:
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


@cocotb.test()
async def every_beat(dut: SimHandleBase) -> None:
    """Drive every port of the top beat by beat and compare every output."""
    job = Path(os.environ[JOB])
    emitted = Emitted.read(Path(os.environ["FOLDER"]))
    beats = np.load(job / "beats.npz")
    Clock(dut.aclk, 10, unit="ns").start()
    dut.aresetn.value = 0
    for port in emitted.inputs:
        getattr(dut, f"{port.port}_tvalid").value = 0
    await ClockCycles(dut.aclk, 8)
    dut.aresetn.value = 1
    start, first = time.process_time(), cocotb.simtime.get_sim_time("ns")
    sending = [_send(dut, port, beats[f"in_{port.name}"]) for port in emitted.inputs]
    taking = [_take(dut, port, beats[f"out_{port.name}"]) for port in emitted.outputs]
    await gather(*sending, *taking)
    cycles = round((cocotb.simtime.get_sim_time("ns") - first) / 10)
    (job / "taken.txt").write_text(f"{cycles} {time.process_time() - start}")


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
