"""The tests of the top: vectors in, results compared bit for bit.

`tb/vectors` has a folder for each set: the bytes that go into each input and those that must come
out of each output. `SEED` sets the stalls and the moments of the resets.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, SimTimeoutError, with_timeout
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource
from numpy.typing import NDArray

from .codec import FOLDER, Port

logging.getLogger("py.warnings").setLevel(logging.ERROR)  # cocotbext-axi uses cocotb's old names
Beats = NDArray[np.uint8]
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
SEED = int(os.environ.get("SEED", "1"))
PERIOD = 10
"""Nanoseconds of a clock cycle; any number would do."""
SETS = sorted(path.name for path in (FOLDER / "tb" / "vectors").iterdir())
PACES = {"full_speed": (0.0, 0.0), "stalls": (0.5, 0.5), "slow_sinks": (0.0, 0.8)}
"""The share of cycles in which (sources, sinks) pause."""


class Top:
    """The top with a driver at each port."""

    def __init__(self, dut: Any, vectors: str) -> None:
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)  # it prints every frame
        self.dut = dut
        Clock(dut.aclk, PERIOD, "ns").start()
        self.inputs = [Port.of(entry) for entry in MANIFEST["inputs"]]
        self.outputs = [Port.of(entry) for entry in MANIFEST["outputs"]]
        self.sources = [self._driver(AxiStreamSource, port) for port in self.inputs]
        self.sinks = [self._driver(AxiStreamSink, port) for port in self.outputs]
        self.given = [_read(vectors, port) for port in self.inputs]
        self.wanted = [_read(vectors, port) for port in self.outputs]
        self.samples = len(self.given[0])
        self.vectors = vectors

    def _driver(self, kind: Any, port: Port) -> Any:
        bus = AxiStreamBus.from_prefix(self.dut, port.name)
        return kind(bus, self.dut.aclk, self.dut.aresetn, reset_active_level=False)

    async def reset(self) -> None:
        """Two cycles of reset, which drop whatever is under way."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 2)
        for driver in (*self.sources, *self.sinks):
            driver.clear()
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 1)

    def stall(self, sources: float, sinks: float) -> None:
        """Let both sides pause in a share of the cycles, at random."""
        for drivers, share in ((self.sources, sources), (self.sinks, sinks)):
            for i, driver in enumerate(drivers):
                if share:
                    driver.set_pause_generator(_pauses(f"{SEED} {share} {i}", share))

    def send(self) -> None:
        """Queue every sample at every input."""
        for source, beats in zip(self.sources, self.given, strict=True):
            for sample in beats:
                source.send_nowait(sample.tobytes())

    async def compare(self) -> None:
        """Every sample at every output, then silence, and no error raised."""
        for port, sink, wanted in zip(self.outputs, self.sinks, self.wanted, strict=True):
            mask = port.mask
            for index, beats in enumerate(wanted):
                got = await self._received(port, sink, index)
                compare(port, index, got, beats, mask)
        await ClockCycles(self.dut.aclk, MANIFEST["latency"] + 10)
        for port, sink in zip(self.outputs, self.sinks, strict=True):
            assert sink.empty(), f"{port.name}: more samples came than were sent"
            assert sink.idle(), f"{port.name}: more beats came than the samples have"
        assert not self.dut.error.value, "the top raised `error`: a tlast came too early"

    async def _received(self, port: Port, sink: Any, index: int) -> Beats:
        """The beats of a sample, as tlast delimits them."""
        cycles = 1000 + 50 * (MANIFEST["latency"] + MANIFEST["interval"])
        try:
            frame = await with_timeout(sink.recv(), cycles * PERIOD, "ns")
        except SimTimeoutError:
            raise AssertionError(
                f"{port.name}: sample {index} of '{self.vectors}' did not come within {cycles} "
                "cycles after the one before: the top has stopped, or tlast is missing"
            ) from None
        beats = np.frombuffer(bytes(frame.tdata), np.uint8).reshape(-1, port.beat_bytes)
        assert len(beats) == port.beats, (
            f"{port.name}: sample {index} of '{self.vectors}' has {len(beats)} beats up to tlast, "
            f"not {port.beats}"
        )
        return beats


def compare(port: Port, sample: int, got: Beats, wanted: Beats, mask: Beats) -> None:
    """AssertionError that names the first beat and value that differ; padding may differ."""
    different = (got ^ wanted) & mask
    if not different.any():
        return
    beat = int(different.any(axis=1).argmax())
    bits = np.unpackbits(different[beat], bitorder="little")
    lane = int(bits.argmax()) // port.layout["value_bits"]
    place = f"lane {lane}" if lane < port.lanes else "the scale"
    came, right = (beats[beat].tobytes()[::-1].hex() for beats in (got, wanted))
    raise AssertionError(
        f"{port.name}: sample {sample}, beat {beat}, {place} differs: tdata is 0x{came}, "
        f"0x{right} is right; seed {SEED}"
    )


def _read(vectors: str, port: Port) -> Beats:
    return port.beats_of((FOLDER / "tb" / "vectors" / vectors / f"{port.name}.bin").read_bytes())


def _pauses(seed: str, share: float) -> Iterator[bool]:
    """For each cycle whether to pause: single cycles, and spells as long as a sample takes."""
    chance = random.Random(seed)
    while True:
        cycles = chance.choice((1, 1, 2, 3, MANIFEST["interval"]))
        yield from [chance.random() < share] * chance.randint(1, cycles)


@cocotb.test()
@cocotb.parametrize(vectors=SETS, pace=list(PACES))
async def streams(dut: Any, vectors: str, pace: str) -> None:
    """Samples follow one another; both sides pause at random."""
    top = Top(dut, vectors)
    await top.reset()
    top.stall(*PACES[pace])
    top.send()
    await top.compare()


@cocotb.test()
@cocotb.parametrize(vectors=SETS)
async def reset_in_mid_stream(dut: Any, vectors: str) -> None:
    """A reset drops what is under way, wherever it falls; then all results are right."""
    top = Top(dut, vectors)
    await top.reset()
    chance = random.Random(SEED)
    # At full speed the samples take this long at least.
    busy = MANIFEST["latency"] + (top.samples - 1) * MANIFEST["interval"]
    for _ in range(3):
        top.send()
        await ClockCycles(dut.aclk, chance.randint(1, busy))
        await top.reset()
        top.send()
        await top.compare()
