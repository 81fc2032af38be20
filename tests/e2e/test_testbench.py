"""The emitted folder alone: `make` in it passes, and fails for every fault put into it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import HardwareError
from quire.hardware import Design

SAMPLES = 12
NETWORK_LANES = {"0": (4, 4), "2": (4, 2), "4": (2, 4)}


def emitted(folder: Path, vectors: bool = True) -> tuple[Design, Tensor]:
    """Three linear layers: blocks that share a scale go in, exact sums come out."""
    torch.manual_seed(3)
    layers = [nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 6)]
    x = torch.randn(SAMPLES, 12)
    graph = quire.capture(nn.Sequential(*layers), (x,))
    plan = quire.Plan.uniform(graph, "mxint8").for_hardware(graph, (x,), quiet=True)
    q = quire.quantize(graph, plan)
    return quire.emit(q, folder, NETWORK_LANES, vectors=x if vectors else None), x


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emitted folder; what is built in it stays for the next test."""
    path = tmp_path_factory.mktemp("bench") / "out"
    emitted(path)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", f"PYTHON={sys.executable}", "OPT=-O0", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def failed_tests(folder: Path) -> set[str]:
    """The tests of the last run that failed, as far as it came."""
    results = ElementTree.parse(folder / "tb" / "build" / "results.xml")
    cases = results.getroot().iter("testcase")
    return {case.attrib["name"] for case in cases if case.find("failure") is not None}


@contextmanager
def changed(file: Path, old: str, new: str) -> Iterator[None]:
    """A file in which `old`, which is there once, is `new`."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    yield
    file.write_text(text)


@contextmanager
def flipped_bit(memory: Path) -> Iterator[None]:
    """A memory whose first word differs in its lowest bit."""
    text = memory.read_text()
    first, rest = text.split("\n", 1)
    memory.write_text(f"{int(first, 16) ^ 1:0{len(first)}x}\n{rest}")
    yield
    memory.write_text(text)


def test_make_passes_and_sees_a_flipped_bit_of_a_weight(folder: Path) -> None:
    good = make(folder)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "8 tests passed, seed 1." in good.stdout
    assert failed_tests(folder) == set()
    with flipped_bit(folder / "mem" / "m4__weight.mem"):
        bad = make(folder)
    assert bad.returncode != 0
    assert "FAILED: 8 of 8 tests, seed 1." in bad.stdout
    assert re.search(r"m_axis_m4: sample \d+, beat \d, lane \d differs: tdata is 0x", bad.stdout)


def test_a_missing_memory_file_is_an_error(folder: Path) -> None:
    memory = folder / "mem" / "m2__weight.mem"
    text = memory.read_text()
    memory.unlink()
    bad = make(folder)
    memory.write_text(text)
    assert bad.returncode != 0
    assert "this folder lacks mem/m2__weight.mem of its manifest: emit it again" in bad.stderr


@pytest.mark.nightly
def test_a_short_memory_file_is_an_error_whatever_the_results(folder: Path) -> None:
    memory = folder / "mem" / "m4__weight.mem"
    text = memory.read_text()
    memory.write_text(text.rsplit("\n", 2)[0] + "\n")
    bad = make(folder)
    memory.write_text(text)
    assert bad.returncode != 0
    assert "%Warning" in bad.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("seed", ["2", "3"])
def test_other_seeds_pass(folder: Path, seed: str) -> None:
    good = make(folder, f"SEED={seed}")
    assert good.returncode == 0, good.stdout + good.stderr
    assert f"8 tests passed, seed {seed}." in good.stdout


@pytest.mark.nightly
def test_waves(folder: Path) -> None:
    good = make(folder, "WAVES=1")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "m_axis_m4_tdata" in (folder / "tb" / "build" / "waves" / "dump.vcd").read_text()


SWAPPED = "{tdata_i[WIDTH-1:16], tdata_i[7:0], tdata_i[15:8]}"
DROPPED = ".in_valid_i (in_valid_i && !(last && total_q == 5)),"
COUNTED = """logic              last;
  logic [7:0] total_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) total_q <= 0;
    else if (in_valid_i && in_ready_o) total_q <= total_q + 1;
  end
"""


@pytest.mark.nightly
def test_swapped_lanes_fail(folder: Path) -> None:
    with changed(folder / "rtl" / "quire_axis_in.sv", "tdata_i[WIDTH-1:0]", SWAPPED):
        bad = make(folder)
    assert bad.returncode != 0
    assert len(failed_tests(folder)) == 8


@pytest.mark.nightly
def test_a_dropped_beat_fails(folder: Path) -> None:
    file = folder / "rtl" / "quire_axis_out.sv"
    with (
        changed(file, "logic              last;\n", COUNTED),
        changed(file, "    .in_valid_i,\n    .in_ready_o,", f"    {DROPPED}\n    .in_ready_o,"),
    ):
        bad = make(folder)
    assert bad.returncode != 0
    assert len(failed_tests(folder)) == 8


@pytest.mark.nightly
def test_only_stalls_see_an_output_that_does_not_wait(folder: Path) -> None:
    file = folder / "rtl" / "quire_axis_out.sv"
    with changed(file, ".out_ready_i(tready_i)", ".out_ready_i(1'b1)"):
        bad = make(folder)
    assert bad.returncode != 0
    failed = failed_tests(folder)
    assert {name for name in failed if "full_speed" in name} == set()
    assert len({name for name in failed if "stalls" in name or "slow_sinks" in name}) == 4


@pytest.mark.nightly
def test_only_resets_see_a_state_that_survives_them(folder: Path) -> None:
    file = folder / "rtl" / "quire_axis_in.sv"
    with (
        changed(file, "      beat_q  <= '0;\n", ""),
        changed(file, "logic              last;\n", "logic last;\n  initial beat_q = '0;\n"),
    ):
        bad = make(folder)
    assert bad.returncode != 0
    failed = failed_tests(folder)
    assert len(failed) == len({name for name in failed if "reset_in_mid_stream" in name}) == 2
    assert "the top raised `error`" in bad.stdout


def test_the_codec_needs_numpy_only_and_agrees(folder: Path, tmp_path: Path) -> None:
    hw, x = emitted(tmp_path / "same")
    np.save(tmp_path / "x.npy", x.numpy())
    program = (
        "import sys; sys.modules.update(torch=None, quire=None, cocotb=None); import numpy as np\n"
        "from tb.codec import Port; x, y = Port.read('s_axis_input_1'), Port.read('m_axis_m4')\n"
        f"data = x.encode(np.load({str(tmp_path / 'x.npy')!r})); print(data.hex())\n"
        "wanted = open('tb/vectors/samples/m_axis_m4.bin', 'rb').read()\n"
        "print(y.decode(wanted).ravel().tolist())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    data, values = done.stdout.splitlines()
    assert data == hw.encode(x).hex()
    assert hw.graph is not None
    assert values == str(quire.exact(hw.graph)(x).ravel().tolist())


def test_a_folder_has_the_same_bytes_wherever_and_whenever_it_is_written(tmp_path: Path) -> None:
    emitted(tmp_path / "one")
    emitted(tmp_path / "other" / "place")
    one, other = (_content(tmp_path / name) for name in ("one", "other/place"))
    assert one == other
    assert not any(str(tmp_path).encode() in data for data in one.values())


def test_emitting_again_leaves_nothing_behind(tmp_path: Path) -> None:
    emitted(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "tb" / "build").mkdir()
    emitted(tmp_path / "out", vectors=False)
    emitted(tmp_path / "fresh", vectors=False)
    again, fresh = _content(tmp_path / "out"), _content(tmp_path / "fresh")
    assert again.pop("notes.txt") == b"mine"
    assert again == fresh
    assert not any(path.startswith("tb/vectors/samples") for path in fresh)
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(HardwareError, match=r"holds files that quire.emit did not write"):
        emitted(tmp_path / "out")


def _content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", ["top.core", "fpga/vivado.tcl"])
def test_other_tools_are_given_every_source_in_order(folder: Path, name: str) -> None:
    text = (folder / name).read_text()
    sources = re.findall(r"^ +(?:- )?(rtl/\S+)$", text, re.MULTILINE)
    listed = re.search(r'"sources": \[(.*?)\]', (folder / "manifest.json").read_text(), re.DOTALL)
    assert listed is not None
    assert sources == re.findall(r'"(.*?)"', listed[1])
    assert set(re.findall(r"mem/\w+\.mem", text)) == {
        f"mem/{file.name}" for file in (folder / "mem").iterdir()
    }


def test_constraints_have_the_period_of_the_clock(folder: Path) -> None:
    for name in ("clock.xdc", "clock.sdc"):
        assert "-period 5.000 [get_ports aclk]" in (folder / "fpga" / name).read_text()


def test_a_missing_tool_is_named_with_what_mends_it(folder: Path, tmp_path: Path) -> None:
    program = "import tb.run; tb.run.check_tools()"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PATH": str(tmp_path)}
    bad = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert bad.returncode != 0
    assert bad.stderr == "PATH lacks g++, make, perl: apt-get install -y g++ make perl\n"
    newer = "import tb.run; tb.run.PACKAGES['cocotb'] = (99, 1); tb.run.check_tools()"
    bad = subprocess.run(
        [sys.executable, "-c", newer], cwd=folder, capture_output=True, text=True, check=False
    )
    assert bad.returncode != 0
    assert "lacks cocotb: " in bad.stderr
    assert "-m pip install 'cocotb>=99.1'\n" in bad.stderr


def test_vectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    hw, x = emitted(tmp_path / "out")
    assert hw.graph is not None
    with pytest.raises(HardwareError, match="vectors: 2 tensors for a design that has input_1"):
        quire.emit(hw.graph, tmp_path / "out", NETWORK_LANES, vectors=(x, x))
    with pytest.raises(HardwareError, match=r"input_1 has the shape \(12, 11\)"):
        quire.emit(hw.graph, tmp_path / "out", NETWORK_LANES, vectors=x[:, :11])
    with pytest.raises(HardwareError, match=r"samples: give each the same"):
        quire.emit(hw.graph, tmp_path / "out", NETWORK_LANES, vectors=x[:0])
