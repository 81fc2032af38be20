"""Synthesis of folders written by hand: what is counted, where, and what is refused."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path
from time import monotonic, sleep

import pytest

from quire.errors import HardwareError
from quire.hardware.netlist import TOP, Resources
from quire.hardware.synth import Synthesis, _last_line, synthesize
from quire.hardware.toolchain import Watch, run

MAC = """\
module mac #(parameter int unsigned DEPTH = 2048, parameter FILE = "") (
  input  logic clk_i, input logic rst_ni,
  input  logic in_valid_i, output logic in_ready_o, input logic [7:0] in_data_i,
  output logic out_valid_o, input logic out_ready_i, output logic [27:0] out_data_o
);
  (* rom_style = "block" *) logic [7:0] rom [0:DEPTH-1];
  if (FILE != "") begin : gen_init
    initial $readmemh(FILE, rom);
  end
  logic [$clog2(DEPTH)-1:0] addr_q;
  logic [7:0] word_q, weight_q, x0_q, x1_q;
  logic signed [15:0] product_q;
  logic signed [27:0] sum_q;
  logic [2:0] valid_q, first_q, last_q;
  logic first, last;
  assign first = addr_q == 0;
  assign last = &addr_q;
  assign in_ready_o = !out_valid_o || out_ready_i;
  assign out_data_o = sum_q;
  always_ff @(posedge clk_i) begin
    if (in_ready_o) begin
      word_q <= rom[addr_q];
      weight_q <= word_q;
      x0_q <= in_data_i;
      x1_q <= x0_q;
      product_q <= $signed(x1_q) * $signed(weight_q);
      if (valid_q[2]) sum_q <= (first_q[2] ? 28'd0 : sum_q) + 28'(product_q);
    end
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      addr_q <= '0;
      valid_q <= '0;
      out_valid_o <= 1'b0;
    end else if (in_ready_o) begin
      if (in_valid_i) addr_q <= addr_q + 1'b1;
      valid_q <= {valid_q[1:0], in_valid_i};
      first_q <= {first_q[1:0], first};
      last_q <= {last_q[1:0], last};
      out_valid_o <= valid_q[2] && last_q[2];
    end
  end
endmodule
"""

CLAMP = """\
module clamp (
  input  logic clk_i, input logic rst_ni,
  input  logic in_valid_i, output logic in_ready_o, input logic [27:0] in_data_i,
  output logic out_valid_o, input logic out_ready_i, output logic [7:0] out_data_o
);
  logic fits;
  assign fits = (&in_data_i[27:7]) || !(|in_data_i[27:7]);
  assign in_ready_o = !out_valid_o || out_ready_i;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) out_valid_o <= 1'b0;
    else if (in_ready_o) out_valid_o <= in_valid_i;
    if (in_ready_o) out_data_o <= fits ? in_data_i[7:0] : {in_data_i[27], {7{~in_data_i[27]}}};
  end
endmodule
"""

STAGE = """\
  {cell} #({parameters}) {name} (
    .clk_i(aclk), .rst_ni(aresetn),
    .in_valid_i({before}_valid), .in_ready_o({before}_ready), .in_data_i({before}_data),
    .out_valid_o({name}_valid), .out_ready_i({name}_ready), .out_data_o({name}_data)
  );
"""

WIDTHS = {"mac": (8, 28), "clamp": (28, 8)}


def write_folder(folder: Path, stages: Mapping[str, str]) -> Path:
    """A folder as `emit` writes it: stages, {name: cell}, one after the other."""
    for name in ("rtl", "mem"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells = {"mac": MAC, "clamp": CLAMP}
    for name, text in {**cells, "chain": _top(stages)}.items():
        (folder / "rtl" / f"{name}.sv").write_text(text)
    for name in stages:
        words = (f"{random.Random(f'{name} {i}').randrange(256):02x}" for i in range(2048))
        (folder / "mem" / f"{name}.mem").write_text("\n".join(words) + "\n")
    manifest = {
        "top": "chain",
        "sources": [f"rtl/{name}.sv" for name in (*cells, "chain")],
        "inputs": [{"name": "x", "port": "s_axis_x", "beats": 1, "bits": 8, "bytes": 1}],
        "outputs": [{"name": "y", "port": "m_axis_y", "beats": 1, "bits": 28, "bytes": 4}],
        "stages": [{"name": name, "cell": cell} for name, cell in stages.items()],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _top(stages: Mapping[str, str]) -> str:
    first, last = WIDTHS[next(iter(stages.values()))][0], WIDTHS[[*stages.values()][-1]][1]
    text = f"""\
module chain (
  input logic aclk, input logic aresetn,
  input logic s_axis_x_tvalid, output logic s_axis_x_tready,
  input logic [{first}-1:0] s_axis_x_tdata,
  output logic m_axis_y_tvalid, input logic m_axis_y_tready,
  output logic [{last}-1:0] m_axis_y_tdata
);
  logic x_valid, x_ready;
  logic [{first}-1:0] x_data;
  assign x_valid = s_axis_x_tvalid;
  assign x_data = s_axis_x_tdata;
  assign s_axis_x_tready = x_ready;
"""
    before = "x"
    for name, cell in stages.items():
        text += (
            f"  logic {name}_valid, {name}_ready;\n  logic [{WIDTHS[cell][1]}-1:0] {name}_data;\n"
        )
        parameters = f'.FILE("mem/{name}.mem")' if cell == "mac" else ""
        text += STAGE.format(cell=cell, parameters=parameters, name=name, before=before)
        before = name
    return (
        text
        + f"""\
  assign m_axis_y_tvalid = {before}_valid;
  assign m_axis_y_tdata = {before}_data;
  assign {before}_ready = m_axis_y_tready;
endmodule
"""
    )


AND_OF_REGISTERS = """\
module clamp (
  input  logic clk_i, input logic rst_ni,
  input  logic in_valid_i, output logic in_ready_o, input logic [27:0] in_data_i,
  output logic out_valid_o, input logic out_ready_i, output logic [7:0] out_data_o
);
  logic [1:0] data_q;
  assign in_ready_o = out_ready_i;
  assign out_valid_o = in_valid_i;
  assign out_data_o = {7'b0, &data_q};
  always_ff @(posedge clk_i) data_q <= in_data_i[1:0];
endmodule
"""

STAGES = {"fc1": "mac", "fc1__cast": "clamp", "head__fc2": "mac"}

LIBRARY = """\
library(small) {
  cell(INV) { area: 2; pin(A) { direction: input; }
    pin(Y) { direction: output; function: "A'"; } }
  cell(BUF) { area: 4; pin(A) { direction: input; }
    pin(Y) { direction: output; function: "A"; } }
  cell(NAND2) { area: 4; pin(A) { direction: input; } pin(B) { direction: input; }
    pin(Y) { direction: output; function: "(A B)'"; } }
  cell(NOR2) { area: 5; pin(A) { direction: input; } pin(B) { direction: input; }
    pin(Y) { direction: output; function: "(A+B)'"; } }
  cell(DFF) { area: 18; ff(IQ, IQN) { clocked_on: "C"; next_state: "D"; }
    pin(C) { direction: input; clock: true; } pin(D) { direction: input; }
    pin(Q) { direction: output; function: "IQ"; } }
}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("chain"), STAGES)


@pytest.fixture(scope="module")
def xc7(chain: Path) -> Synthesis:
    return synthesize(chain, "xc7")


def summed(layers: Mapping[str, Resources]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*map(astuple, layers.values()), strict=True)))


def test_a_multiplier_and_a_rom_become_one_dsp_and_one_block_memory_each(xc7: Synthesis):
    assert set(xc7.layers) == {*STAGES, TOP}
    for layer in ("fc1", "head__fc2"):
        assert (xc7.layers[layer].DSP, xc7.layers[layer].BRAM) == (1, 1)
    assert (xc7.layers["fc1__cast"].DSP, xc7.layers["fc1__cast"].BRAM) == (0, 0)
    assert summed(xc7.layers) == astuple(xc7.total)
    assert xc7.layers["fc1__cast"].FF == 9  # 8 bits and valid


def test_a_layer_uses_what_its_cell_uses_alone(xc7: Synthesis, tmp_path: Path):
    alone = synthesize(write_folder(tmp_path, {"fc1__cast": "clamp"}), "xc7").total
    within = xc7.layers["fc1__cast"]
    assert within.FF == alone.FF
    assert pytest.approx(alone.LUT, abs=2) == within.LUT  # its share of the handshake
    assert astuple(xc7.layers["fc1"]) == pytest.approx(astuple(xc7.layers["head__fc2"]), abs=2)


def test_the_same_folder_is_synthesised_once(chain: Path, xc7: Synthesis):
    times = [file.stat().st_mtime_ns for file in sorted(xc7.log.parent.iterdir())]
    assert synthesize(chain, "xc7") == xc7
    assert [file.stat().st_mtime_ns for file in sorted(xc7.log.parent.iterdir())] == times


def test_a_changed_source_is_synthesised_again(tmp_path: Path):
    folder = write_folder(tmp_path, {"fc1__cast": "clamp"})
    first = synthesize(folder, "gates")
    text = (folder / "rtl" / "clamp.sv").read_text()
    (folder / "rtl" / "clamp.sv").write_text(text.replace("(&in_data_i[27:7]) ||", ""))
    assert synthesize(folder, "gates").total.gates < first.total.gates


def test_a_placed_design_has_a_frequency_and_a_critical_path_between_layers(chain: Path):
    result = synthesize(chain, "ecp5", place=True, clock_mhz=150.0, seed=3)
    assert (result.total.DSP, result.total.BRAM) == (2, 2)
    assert summed(result.layers) == astuple(result.total)
    assert result.frequency_mhz is not None
    assert 50 < result.frequency_mhz < 500
    path = result.critical_path
    assert path is not None
    assert {path.source, path.sink} <= set(STAGES)
    assert path.source_cell.startswith(f"{path.source}.")
    assert path.delay_ns == pytest.approx(1000 / result.frequency_mhz, rel=0.01)
    assert set(result.tools) == {"Yosys", "nextpnr"}


def test_gates_are_transistors_or_areas_in_units_of_a_nand(tmp_path: Path):
    # Spaces, at which a command of Yosys would split a path.
    folder = write_folder(tmp_path / "a folder", {"fc1__cast": "clamp"})
    (folder / "rtl" / "clamp.sv").write_text(AND_OF_REGISTERS)
    # Two flip-flops of 16 transistors and an AND of 6, the NAND having 4.
    assert synthesize(folder, "gates").total == Resources(FF=2, gates=(2 * 16 + 6) / 4)
    library = tmp_path / "a small.lib"
    library.write_text(LIBRARY)
    # Two flip-flops, a NAND and an inverter, or two inverters and a NOR.
    found = synthesize(folder, "gates", liberty=library).total
    assert found.FF == 2
    assert found.gates in ((2 * 18 + 4 + 2) / 4, (2 * 18 + 5 + 2 * 2) / 4)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("virtex", {}, "no target 'virtex': choose one of xc7, xcup, ecp5, gates"),
        ("xc7", {"place": True}, "place=True is for the target ecp5, not 'xc7': leave it out"),
        ("xc7", {"liberty": Path("a.lib")}, "liberty='a.lib' is for the target gates, not 'xc7'"),
        (
            "gates",
            {"liberty": Path("a.lib")},
            "liberty='a.lib' is no file: give a cell library (.lib)",
        ),
        ("gates", {"liberty": "b.lib"}, "liberty='b.lib' is no file: give a cell library (.lib)"),
        ("gates", {"liberty": 3}, "liberty=3: give the path of a .lib file, or None"),
        ("ecp5", {"place": "yes"}, "place='yes': give True or False"),
        ("ecp5", {"clock_mhz": -3}, "clock_mhz=-3: give MHz, above 0 and finite"),
        ("ecp5", {"seed": 1.5}, "seed=1.5: give a whole number, 0 or more"),
        ("xc7", {"timeout": 0}, "timeout=0: give seconds, above 0 and finite, or None"),
    ],
)
def test_what_is_not_legal_is_refused(
    chain: Path, target: str, options: dict[str, object], message: str
):
    with pytest.raises(HardwareError) as caught:
        synthesize(chain, target, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def interrupted(name: str, log: Path) -> None:
    """Ctrl-C once the tool has started what it starts."""
    if log.read_text().endswith("\n"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("watch", "raised", "message"),
    [
        (Watch(timeout=3), HardwareError, r"slow was stopped after 3 seconds \(timeout\)"),
        (Watch(show=interrupted), KeyboardInterrupt, None),
    ],
    ids=["timeout", "ctrl-c"],
)
def test_a_tool_that_is_stopped_ends_with_all_that_it_started(
    tmp_path: Path, watch: Watch, raised: type[BaseException], message: str | None
):
    log = tmp_path / "log"
    started = replace(watch, start=monotonic())
    with pytest.raises(raised, match=message):
        run("slow", [sys.executable, "-c", PARENT], tmp_path, log, watch=started)
    child = int(log.read_text())
    while is_alive(child):  # a killed process takes a moment to end
        sleep(0.01)


ORPHAN = """
import sys
from pathlib import Path
from quire.hardware.toolchain import _WITH_PARENT, run
program = _WITH_PARENT + "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
run("slow", [sys.executable, "-c", program], Path("."), Path("log"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_tool_does_not_outlive_a_parent_that_is_killed(tmp_path: Path):
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=tmp_path)
    log = tmp_path / "log"
    while not (log.exists() and log.read_text().endswith("\n")):
        assert parent.poll() is None
        sleep(0.01)
    parent.kill()
    parent.wait()
    while is_alive(int(log.read_text())):
        sleep(0.01)


def test_a_synthesis_that_was_stopped_is_done_again(tmp_path: Path):
    folder = write_folder(tmp_path, {"fc1__cast": "clamp"})
    with pytest.raises(HardwareError, match=r"Yosys was stopped after 1e-09 seconds"):
        synthesize(folder, "gates", timeout=1e-9)
    assert synthesize(folder, "gates").total.FF == 9


def test_what_is_shown_of_a_tool_is_the_last_whole_line_of_its_log(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("1. Executing PROC pass.\n\n2. Exec")
    assert _last_line(log) == "1. Executing PROC pass."
    log.write_text("")
    assert _last_line(log) == ""


def test_broken_sources_are_refused_with_the_tools_message(tmp_path: Path):
    folder = write_folder(tmp_path, {"fc1__cast": "clamp"})
    (folder / "rtl" / "clamp.sv").write_text(CLAMP.replace("assign fits =", "assign fits"))
    with pytest.raises(HardwareError, match=r"rtl/clamp\.sv:\d+: ERROR: syntax error"):
        synthesize(folder, "xc7")


def test_a_memory_file_that_is_missing_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path, {"fc1": "mac"})
    (folder / "mem" / "fc1.mem").unlink()
    with pytest.raises(HardwareError, match=r"mem/fc1\.mem"):
        synthesize(folder, "xc7")


def test_a_net_with_two_drivers_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path, {"fc1__cast": "clamp"})
    twice = CLAMP.replace("  logic fits;", "  logic fits;\n  assign fits = in_data_i[0];")
    (folder / "rtl" / "clamp.sv").write_text(twice)
    with pytest.raises(HardwareError, match=r"Found \d+ problems in 'check -assert'"):
        synthesize(folder, "gates")
