"""Simulation of an emitted folder, on a small hand-written top (`paced/paced.sv`).

Every case shares one or two builds: what a case needs is in its data, its memory or its manifest.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quire.errors import HardwareError
from quire.hardware import simulate, toolchain, verilate
from quire.hardware.emitted import Emitted
from quire.hardware.lint import lint
from quire.hardware.simulate import Stalls, Traffic, Waveform, run_simulation

BEATS = 4
ROM = 0x25
RESET = 8  # cycles
MANIFEST: dict[str, Any] = {
    "top": "paced",
    "inputs": [
        {"name": "a", "port": "s_axis_a", "beats": BEATS, "bits": 8, "bytes": 1},
        {"name": "b", "port": "s_axis_b", "beats": BEATS, "bits": 24, "bytes": 3},
    ],
    "outputs": [
        {"name": "sum", "port": "m_axis_sum", "beats": BEATS, "bits": 24, "bytes": 3},
        {"name": "echo", "port": "m_axis_echo", "beats": BEATS, "bits": 72, "bytes": 9},
    ],
    "sources": ["rtl/paced_slice.sv", "rtl/paced.sv"],
    "streams": [{"name": "a__0"}, {"name": "b"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An emitted folder of its own."""
    target = tmp_path / "paced"
    shutil.copytree(Path(__file__).parent / "paced", target / "rtl")
    (target / "mem").mkdir()
    (target / "mem" / "rom.mem").write_text(f"00\n{ROM:02x}\n")
    (target / "manifest.json").write_text(json.dumps(MANIFEST))
    return target


def edit_manifest(folder: Path, change: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **change}))


def samples_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random beats without the bytes that jam the top or fail its assertion."""
    random = np.random.default_rng(seed)
    return {
        "a": random.integers(0, 0xEE, (count, BEATS, 1), dtype=np.uint8),
        "b": random.integers(0, 256, (count, BEATS, 3), dtype=np.uint8),
    }


def numbers(beats: np.ndarray) -> np.ndarray:
    """Little-endian bytes as integers."""
    weights = 256 ** np.arange(beats.shape[-1], dtype=np.int64)
    return (beats.astype(np.int64) * weights).sum(-1)


def check_outputs(run: simulate.SimulationRun, inputs: dict[str, np.ndarray]) -> None:
    a, b = inputs["a"], inputs["b"]
    assert (numbers(run.outputs["sum"]) == (numbers(a) + numbers(b) + ROM) % 2**24).all()
    marker = np.broadcast_to(np.array([0xEF, 0xBE], np.uint8), (*a.shape[:2], 2))
    assert (run.outputs["echo"] == np.concatenate([marker, b, a, b], axis=-1)).all()


@pytest.mark.parametrize("cycles", [0, -5, 2.5, True])
def test_a_waveform_has_a_cycle_at_least(cycles: Any):
    with pytest.raises(HardwareError, match="cycles: give a whole number, 1 or more"):
        Waveform(Path("w.vcd"), cycles)


def test_outputs_and_cycles_without_stalls(folder: Path):
    inputs = samples_of(50)
    run = run_simulation(folder, inputs, probes=["a__0"])
    check_outputs(run, inputs)
    # In at t, through the first slice at t + 1; then a beat every second cycle, and the last slice.
    assert run.latency in (1 + 2 * (BEATS - 1) + 1, 1 + 2 * (BEATS - 1) + 2)
    assert run.interval == 2 * BEATS
    assert (run.probes["a__0"] == inputs["a"].reshape(-1, 1)).all()
    beats, streamed = 50 * BEATS, 49 * BEATS
    assert {stream.beats for stream in run.streams.values()} == {beats}
    # Inside, a beat waits every second cycle; a sink waits for one just as often.
    inner = run.streams["a__0"]
    assert inner == run.streams["b"]
    assert streamed - 2 <= inner.stalls <= streamed + 2
    assert inner.starved == 0
    assert run.streams["m_axis_sum"].stalls == 0
    assert streamed - 2 <= run.streams["m_axis_sum"].starved <= streamed + 2
    assert run.cycles == run.ends[-1] + 1
    assert (np.diff(run.ends.astype(np.int64))[1:] == 2 * BEATS).all()


@pytest.mark.parametrize("stalls", [Stalls(0.6, 0.0), Stalls(0.0, 0.6), Stalls(0.4, 0.4)])
def test_stalls_change_no_output(folder: Path, stalls: Stalls):
    inputs = samples_of(60, seed=1)
    run, again, other = (
        run_simulation(folder, inputs, stalls=stalls, seed=seed) for seed in (3, 3, 4)
    )
    check_outputs(run, inputs)
    check_outputs(other, inputs)
    assert run.cycles == again.cycles
    assert (run.ends == again.ends).all()
    assert (run.ends != other.ends).any()
    assert run.interval is not None
    assert run.interval > 2 * BEATS
    assert (run.streams["m_axis_echo"].stalls > 0) == (stalls.sinks > 0)


@pytest.mark.parametrize("interrupt", [7, 8, 21])
def test_reset_drops_what_is_in_flight(folder: Path, interrupt: int):
    # The cycles leave part of a sample inside: without a reset, its tlast would be misplaced.
    inputs = samples_of(5)
    run = run_simulation(folder, inputs, interrupt=interrupt, probes=["b"])
    check_outputs(run, inputs)
    plain = run_simulation(folder, inputs)
    assert run.cycles == plain.cycles + interrupt + 2
    assert abs(run.latency - plain.latency) <= 1
    assert run.streams["b"].beats == plain.streams["b"].beats
    assert (run.probes["b"] == inputs["b"].reshape(-1, 3)).all()


def test_one_sample_has_a_latency_and_no_interval(folder: Path):
    inputs = samples_of(1)
    run = run_simulation(folder, inputs)
    check_outputs(run, inputs)
    assert run.interval is None
    assert run.latency == run.ends[0] - RESET
    assert run.streams["a__0"] == Traffic(BEATS, 0, 0)


def test_jam_names_the_stuck_streams(folder: Path):
    inputs = samples_of(3)
    inputs["a"][1, 2] = 0xEE
    with pytest.raises(HardwareError) as raised:
        run_simulation(folder, inputs, patience=500, stalls=Stalls(0.5, 0.5))
    message = str(raised.value)
    assert "no beat moved for 500 cycles" in message
    assert "valid without ready: s_axis_a, s_axis_b, a__0, b;" in message
    assert "ready without valid: m_axis_sum, m_axis_echo" in message
    assert f"m_axis_sum: {BEATS + 3} of {3 * BEATS} beats" in message


def test_assertion_that_fails_is_an_error(folder: Path):
    inputs = samples_of(3)
    inputs["a"][2, 0] = 0xFF
    with pytest.raises(HardwareError, match=r"assertion failed in rtl/paced\.sv:\d+, cycle \d+"):
        run_simulation(folder, inputs)
    assert "a is all ones" in (folder / "logs" / "simulate.log").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "file not found: mem/rom.mem"), ("00\n", "ended before .*: mem/rom.mem")],
)
def test_memory_file_that_is_missing_or_short_is_an_error(
    folder: Path, content: str | None, message: str
):
    memory = folder / "mem" / "rom.mem"
    memory.unlink()
    if content is not None:
        memory.write_text(content)
    with pytest.raises(HardwareError, match=message):
        run_simulation(folder, samples_of(2))


def test_misplaced_tlast_on_an_input_raises_the_tops_error(folder: Path):
    inputs = [{**port, "beats": 2} for port in MANIFEST["inputs"]]
    edit_manifest(
        folder, {"inputs": inputs, "outputs": [{**p, "beats": 2} for p in MANIFEST["outputs"]]}
    )
    outputs = samples_of(2)
    halves = {name: beats.reshape(4, 2, -1) for name, beats in outputs.items()}
    with pytest.raises(HardwareError, match=r"error output rose in cycle \d+: an input's tlast"):
        run_simulation(folder, halves)


def test_beats_that_the_manifest_does_not_have_are_an_error(folder: Path):
    longer = [{**port, "beats": BEATS - 1} for port in MANIFEST["outputs"]]
    edit_manifest(folder, {"outputs": longer})
    with pytest.raises(HardwareError, match=r"'m_axis_\w+_tlast' is 0 on beat 2 of sample 0"):
        run_simulation(folder, samples_of(2))


def test_stream_or_port_that_the_top_lacks_is_named(folder: Path):
    edit_manifest(folder, {"outputs": [{**port, "bytes": 2} for port in MANIFEST["outputs"]]})
    with pytest.raises(HardwareError, match=r"'m_axis_sum_tdata' has 3 bytes.*says 2"):
        run_simulation(folder, samples_of(1))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": samples_of(1)["a"]}, r"inputs are \['a'\]; 'paced' has \['a', 'b'\]"),
        ({**samples_of(2), "a": samples_of(1)["a"]}, r"\[1, 2\] samples"),
        (samples_of(0), r"\[0\] samples"),
        (
            {**samples_of(2), "a": samples_of(2)["b"]},
            r"input 'a' is uint8 \(2, 4, 3\): give uint8 \(samples, 4, 1\)",
        ),
        ({**samples_of(2), "a": samples_of(2)["a"].astype(int)}, "input 'a' is int64"),
    ],
)
def test_inputs_that_do_not_fit(folder: Path, inputs: dict[str, np.ndarray], message: str):
    with pytest.raises(HardwareError, match=message):
        run_simulation(folder, inputs)


def test_unknown_probe_and_stall_and_folder(folder: Path, tmp_path: Path):
    with pytest.raises(HardwareError, match=r"no stream \['c'\] in 'paced': \['a__0', 'b'\]"):
        run_simulation(folder, samples_of(1), probes=["c"])
    with pytest.raises(HardwareError, match=r"stalls of sinks are 1.0"):
        Stalls(0.1, 1.0)
    with pytest.raises(HardwareError, match=r"has no manifest\.json"):
        run_simulation(tmp_path, samples_of(1))
    (folder / "rtl" / "paced.sv").unlink()
    with pytest.raises(HardwareError, match=r"lacks 'rtl/paced\.sv'"):
        run_simulation(folder, samples_of(1))


def test_second_run_builds_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run_simulation(folder, samples_of(1))
    monkeypatch.setattr(verilate, "run_verilator", lambda *_: pytest.fail("built again"))
    (folder / "mem" / "rom.mem").write_text("00\n11\n")  # memories are read at run time
    inputs = samples_of(1)
    run = run_simulation(folder, inputs)
    assert (
        numbers(run.outputs["sum"]) == (numbers(inputs["a"]) + numbers(inputs["b"]) + 0x11) % 2**24
    ).all()
    with (folder / "rtl" / "paced.sv").open("a") as source:
        source.write("// another text\n")
    with pytest.raises(pytest.fail.Exception, match="built again"):
        run_simulation(folder, samples_of(1))


def test_a_long_run_gives_what_a_short_one_does(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The simulator of long runs has no assertions and another C++ of the same top."""
    inputs = samples_of(50)
    timed = {"a__0": 7, "b": 3}
    short = run_simulation(folder, inputs, timed=timed)
    built: list[verilate.Build] = []

    def build(emitted: Emitted, build: verilate.Build, *, waveform: bool) -> Path:
        built.append(build)
        return verilate.build_simulator(emitted, build, waveform=waveform)

    monkeypatch.setattr(simulate, "build_simulator", build)
    monkeypatch.setattr(simulate, "LONG_RUN", 1)
    long = run_simulation(folder, inputs, timed=timed)
    assert built == [verilate.QUICK, verilate.FAST]
    check_outputs(long, inputs)
    assert (long.latency, long.cycles) == (short.latency, short.cycles)
    assert (long.ends == short.ends).all()
    assert long.streams == short.streams
    assert {name: list(times) for name, times in long.times.items()} == {
        name: list(times) for name, times in short.times.items()
    }
    inputs["a"][2, 0] = 0xFF
    with pytest.raises(HardwareError, match="assertion failed"):
        run_simulation(folder, inputs)
    assert built[2:] == [verilate.QUICK]


@pytest.mark.parametrize(
    ("cycles", "looks", "build"),
    [
        (simulate.LONG_RUN - 1, False, verilate.QUICK),
        (simulate.LONG_RUN - 1, True, verilate.QUICK),
        (simulate.LONG_RUN, False, verilate.FAST),
        (simulate.LONG_RUN, True, verilate.CHECKED),
    ],
)
def test_a_run_that_is_watched_keeps_its_assertions(
    cycles: int, looks: bool, build: verilate.Build
):
    assert simulate.build_of(cycles, looks) is build


def test_signs_are_those_of_verilator(tmp_path: Path):
    include = toolchain.verilator_root() / "include"
    own = Path(verilate.__file__).parent
    runtime = [include / name for name in ("verilated.cpp", "verilated_threads.cpp")]
    sources = [Path(__file__).parent / "signs_bench.cpp", *runtime]
    command = ["g++", "-O1", f"-I{own}", f"-I{include}", f"-I{include / 'vltstd'}", "-pthread"]
    command += ["-o", "signs", *map(str, sources)]
    toolchain.run("g++", command, tmp_path, tmp_path / "log")
    toolchain.run("signs", [str(tmp_path / "signs")], tmp_path, tmp_path / "said")
    assert int((tmp_path / "said").read_text()) == 1000 * (2 * 64 + 3 * 32)


def test_build_that_fails_says_why(folder: Path):
    source = folder / "rtl" / "paced.sv"
    check = (
        '  if (1) begin : gen_check\n    $error("WIDTH is 0, and at least 1 is legal");\n  end\n'
    )
    source.write_text(source.read_text().replace("endmodule", check + "endmodule"))
    with pytest.raises(HardwareError, match=r"Verilator failed[^$]*WIDTH is 0") as raised:
        run_simulation(folder, samples_of(1))
    assert str(folder / "logs" / "verilator.log") in str(raised.value)


def test_model_that_crashes_takes_nothing_along(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    crashing = tmp_path / "crashing"
    crashing.write_text("#!/bin/sh\necho about to crash\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(simulate, "build_simulator", lambda *_, **__: crashing)
    with pytest.raises(HardwareError, match=r"SIGSEGV:\nabout to crash"):
        run_simulation(folder, samples_of(1))


def times_of(waveform: Path) -> list[int]:
    return [int(time) for time in re.findall(r"^#(\d+)$", waveform.read_text(), re.MULTILINE)]


def test_waveform_holds_the_last_cycles(folder: Path, tmp_path: Path):
    waveform = Waveform(tmp_path / "waves" / "paced.vcd", cycles=12)
    run = run_simulation(folder, samples_of(9), waveform=waveform, stalls=Stalls(0.2, 0.2))
    times = times_of(waveform.path)
    assert times[0] == 10 * (run.cycles - 12)
    assert times[-1] == 10 * (run.cycles - 1) + 5
    assert re.search(r"\$var wire 8 \S+ a__0_data", waveform.path.read_text())
    jammed = samples_of(9)
    jammed["a"][4, 0] = 0xEE
    with pytest.raises(HardwareError, match="no beat moved"):
        run_simulation(folder, jammed, waveform=waveform, patience=300)
    times = times_of(waveform.path)
    assert len({time // 10 for time in times}) > 12
    moved = 10 * (RESET + 4 * 2 * BEATS)
    assert times[0] < moved + 200


def test_lint_accepts_the_top_and_refuses_a_width_mismatch(folder: Path):
    lint(folder)
    source = folder / "rtl" / "paced.sv"
    source.write_text(source.read_text().replace("beat_q + 2'd1", "beat_q + 3'd1"))
    with pytest.raises(HardwareError, match=r"WIDTH\w+: rtl/paced\.sv:\d+"):
        lint(folder)


def test_lint_refuses_what_only_slang_sees(folder: Path):
    source = folder / "rtl" / "paced.sv"
    text = source.read_text().replace("  assign pass = ", "  assign pass = later && ")
    text = text.replace(
        "  assign error = ", "  logic later;\n  assign later = 1'b1;\n  assign error = "
    )
    source.write_text(text)
    with pytest.raises(
        HardwareError, match=r"slang failed[^$]*'later' used before its declaration"
    ):
        lint(folder)


def test_missing_tools_are_named_with_the_command_that_mends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    missing = toolchain.Tool("Wonder", "wonder-tool", "wonder_tool")
    with pytest.raises(HardwareError, match=r"Wonder is not installed: pip install 'quire\[hw\]'"):
        missing.require()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HardwareError, match=r"apt-get install -y g\+\+ make perl"):
        toolchain.VERILATOR.require()


def test_yosys_runs_in_a_child_and_says_what_failed(folder: Path):
    log = folder / "logs" / "yosys.log"
    toolchain.run_yosys("read_verilog -sv rtl/paced_slice.sv\nhierarchy -check\n", folder, log)
    assert "paced_slice" in log.read_text()
    with pytest.raises(HardwareError, match=r"Yosys failed[^$]*absent\.sv"):
        toolchain.run_yosys("read_verilog -sv rtl/absent.sv\n", folder, log)
