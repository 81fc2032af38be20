"""The stream cells in simulation: exact order under random stalls, padding, latency and interval.

One Verilator build holds every variant of every cell; their assertions are on.
"""

import fcntl
import os
import random
import struct
import subprocess
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from quire.hardware.toolchain import run_make, run_slang, run_verilator, run_yosys

HERE = Path(__file__).parent
RTL = HERE.parents[2] / "src/quire/hardware/rtl"
TABLE = [(i * 37 + 11) % 64 for i in range(32)]  # 5-bit codes to 6-bit codes
ROWS = 40  # rows, or beats, in a job
EARLY = 6  # the beat with a misplaced tlast

Beats = list[int]
Model = Callable[[list[Beats]], list[Beats]]


@dataclass(frozen=True)
class Variant:
    """A cell with parameters, its channels, and what it does to the beats.

    `ports` joins the cell's ports to nets: `i0`, `i1` are the input channels, `o0`, `o1` the output
    channels, each with `_valid`, `_ready` and `_data`. `make(rng)` draws the beats of each input,
    `model` says what comes out. `latency` is in cycles from the first beat in to the first one out;
    `interval` is (beats out, cycles for them) without stalls.
    """

    cell: str
    parameters: Mapping[str, int | str]
    in_widths: Sequence[int]
    out_widths: Sequence[int]
    ports: Mapping[str, str]
    make: Callable[[random.Random], list[Beats]]
    model: Model
    latency: int
    interval: tuple[int, int]
    clocked: bool = True

    @property
    def name(self) -> str:
        """The cell and its parameters, for test ids."""
        shown = (f"{k}={v}" for k, v in self.parameters.items() if k != "THRESHOLDS")
        return "-".join([self.cell, *shown])


STREAM = {
    "in_valid_i": "i0_valid",
    "in_ready_o": "i0_ready",
    "in_data_i": "i0_data",
    "out_valid_o": "o0_valid",
    "out_ready_i": "o0_ready",
    "out_data_o": "o0_data",
}


def beats(width: int, count: int = ROWS) -> Callable[[random.Random], list[Beats]]:
    """Draw `count` beats of random bits for one input."""
    return lambda rng: [[rng.getrandbits(width) for _ in range(count)]]


def same(inputs: list[Beats]) -> list[Beats]:
    """The one output has the beats of the one input."""
    return inputs


def pack(row: Sequence[int], lanes: int, width: int, padding: Iterator[int]) -> Beats:
    """The beats of a row of values, lane 0 low; what is missing in the last beat is padding."""
    short = -len(row) % lanes
    values = [*row, *(next(padding) for _ in range(short))]
    groups = [values[i : i + lanes] for i in range(0, len(values), lanes)]
    return [sum(v << (width * i) for i, v in enumerate(group)) for group in groups]


def unpack(stream: Beats, row: int, lanes: int, width: int) -> list[int]:
    """The values of all rows of a stream, without padding."""
    values = [beat >> (width * i) & ((1 << width) - 1) for beat in stream for i in range(lanes)]
    padded = -(-row // lanes) * lanes
    return [v for i, v in enumerate(values) if i % padded < row]


def rows(values: Sequence[int], row: int, lanes: int, width: int) -> Beats:
    """The beats of values cut into rows, padded with zeros."""
    zeros = iter(lambda: 0, None)
    cut = [values[i : i + row] for i in range(0, len(values), row)]
    return [beat for r in cut for beat in pack(r, lanes, width, zeros)]


def row_beats(row: int, lanes: int, width: int, count: int) -> Callable[[random.Random], Beats]:
    """Draw rows of random values whose padding is random too: a cell must not rely on it."""

    def make(rng: random.Random) -> Beats:
        noise = iter(lambda: rng.getrandbits(width), None)
        drawn = [[next(noise) for _ in range(row)] for _ in range(count)]
        return [beat for r in drawn for beat in pack(r, lanes, width, noise)]

    return make


def convert(width: int, lanes_in: int, lanes_out: int, row: int) -> Variant:
    """A width conversion; its interval is that of the side with more beats a row."""
    out_beats, in_beats = -(-row // lanes_out), -(-row // lanes_in)
    make = row_beats(row, lanes_in, width, ROWS)
    return Variant(
        "convert",
        {"LANE_W": width, "IN_LANES": lanes_in, "OUT_LANES": lanes_out, "ROW": row},
        [width * lanes_in],
        [width * lanes_out],
        STREAM,
        lambda rng: [make(rng)],
        lambda x: [rows(unpack(x[0], row, lanes_in, width), row, lanes_out, width)],
        -(-min(lanes_out, row) // lanes_in),
        (out_beats, max(in_beats, out_beats)),
    )


def repack(width: int, lanes: tuple[int, int], row: tuple[int, int], cycles: int) -> Variant:
    """A row conversion; `cycles` is its interval for the longer of the two rows."""
    longer = max(row)
    make = row_beats(row[0], lanes[0], width, ROWS * longer // row[0])
    first = min(lanes[1], row[1])  # values in the first beat out
    whole, rest = divmod(first, row[0])
    return Variant(
        "repack",
        {
            "LANE_W": width,
            "IN_LANES": lanes[0],
            "OUT_LANES": lanes[1],
            "IN_ROW": row[0],
            "OUT_ROW": row[1],
        },
        [width * lanes[0]],
        [width * lanes[1]],
        STREAM,
        lambda rng: [make(rng)],
        lambda x: [rows(unpack(x[0], row[0], lanes[0], width), row[1], lanes[1], width)],
        whole * -(-row[0] // lanes[0]) + -(-rest // lanes[0]),
        (longer // row[1] * -(-row[1] // lanes[1]), cycles),
    )


def concat(width: int, lanes: tuple[int, int, int], row: tuple[int, int]) -> Variant:
    """Rows of a, each followed by a row of b; the input side is the slower one."""
    a, b = (row_beats(r, n, width, ROWS) for r, n in zip(row, lanes, strict=False))

    def model(x: list[Beats]) -> list[Beats]:
        va, vb = (unpack(s, r, n, width) for s, r, n in zip(x, row, lanes, strict=False))
        joined = [
            v
            for i in range(ROWS)
            for v in (*va[i * row[0] : (i + 1) * row[0]], *vb[i * row[1] : (i + 1) * row[1]])
        ]
        return [rows(joined, sum(row), lanes[2], width)]

    in_beats = sum(-(-r // n) for r, n in zip(row, lanes, strict=False))
    assert lanes[2] <= row[0]  # the latency below is that of beats of a alone
    return Variant(
        "concat",
        {
            "LANE_W": width,
            "A_LANES": lanes[0],
            "B_LANES": lanes[1],
            "OUT_LANES": lanes[2],
            "A_ROW": row[0],
            "B_ROW": row[1],
        },
        [width * lanes[0], width * lanes[1]],
        [width * lanes[2]],
        {
            **{f"a_{k}": f"i0_{k[:-2]}" for k in ("valid_i", "ready_o", "data_i")},
            **{f"b_{k}": f"i1_{k[:-2]}" for k in ("valid_i", "ready_o", "data_i")},
            **{k: v for k, v in STREAM.items() if k.startswith("out")},
        },
        lambda rng: [a(rng), b(rng)],
        model,
        -(-lanes[2] // lanes[0]),
        (-(-sum(row) // lanes[2]), in_beats),
    )


def axis_in(sample: int, early: int = ROWS) -> Variant:
    """TDATA_W 16 to WIDTH 11, tlast above it; output 1 is `error`, with valid for a signal.

    tlast is on every other sample's last beat, and on beat `early`, which is none by default.
    """

    def make(rng: random.Random) -> list[Beats]:
        last = [(i + 1) % (2 * sample) == 0 or i == early for i in range(ROWS)]
        return [[rng.getrandbits(16) | flag << 16 for flag in last]]

    return Variant(
        "axis_in",
        {"TDATA_W": 16, "WIDTH": 11, "BEATS": sample},
        [17],
        [11, 1],
        {
            "tvalid_i": "i0_valid",
            "tready_o": "i0_ready",
            "tdata_i": "i0_data[15:0]",
            "tlast_i": "i0_data[16]",
            **{k: v for k, v in STREAM.items() if k.startswith("out")},
            "error_o": "o1_valid",
        },
        make,
        lambda x: [[beat & 0x7FF for beat in x[0]]],
        1,
        (1, 1),
    )


def axis_out(sample: int) -> Variant:
    """WIDTH 11 to TDATA_W 16, tlast above it."""
    return Variant(
        "axis_out",
        {"TDATA_W": 16, "WIDTH": 11, "BEATS": sample},
        [11],
        [17],
        {
            **{k: v for k, v in STREAM.items() if k.startswith("in")},
            "tvalid_o": "o0_valid",
            "tready_i": "o0_ready",
            "tdata_o": "o0_data[15:0]",
            "tlast_o": "o0_data[16]",
        },
        beats(11),
        lambda x: [[b | (i % sample == sample - 1) << 16 for i, b in enumerate(x[0])]],
        1,
        (1, 1),
    )


def fork(outputs: int) -> Variant:
    """One input, the same beats at every output."""
    nets = {
        port: "{" + ", ".join(f"o{i}_{net}" for i in reversed(range(outputs))) + "}"
        for port, net in (("out_valid_o", "valid"), ("out_ready_i", "ready"))
    }
    shared = {f"o{i}_data": "o0_data" for i in range(1, outputs)}
    return Variant(
        "fork",
        {"N": outputs, "WIDTH": 9},
        [9],
        [9] * outputs,
        {**STREAM, **nets, **{f"assign {k}": v for k, v in shared.items()}},
        beats(9),
        lambda x: x * outputs,
        0,
        (1, 1),
    )


def join(widths: Sequence[int]) -> Variant:
    """Inputs of these widths side by side."""
    nets = {
        f"in_{port}": "{"
        + ", ".join(f"i{i}_{port[:-2]}" for i in reversed(range(len(widths))))
        + "}"
        for port in ("valid_i", "ready_o", "data_i")
    }
    shifts = [sum(widths[:i]) for i in range(len(widths))]
    return Variant(
        "join",
        {"N": len(widths), "WIDTH": sum(widths)},
        widths,
        [sum(widths)],
        {**STREAM, **nets},
        lambda rng: [beats(w)(rng)[0] for w in widths],
        lambda x: [
            [sum(b << s for b, s in zip(g, shifts, strict=True)) for g in zip(*x, strict=True)]
        ],
        0,
        (1, 1),
        clocked=False,
    )


def fifo(depth: int, registered: int) -> Variant:
    """A queue; every depth passes a beat a cycle."""
    parameters = {"WIDTH": 13, "DEPTH": depth, "REGISTERED": registered}
    return Variant(
        "fifo", parameters, [13], [13], STREAM, beats(13, 200), same, 1 + registered, (1, 1)
    )


def lookup(lanes: int, block: int) -> Variant:
    """Every lane through the same table."""
    return Variant(
        "lookup",
        {"LANES": lanes, "IN_BITS": 5, "OUT_BITS": 6, "BLOCK": block, "FILE": '"mem/table.mem"'},
        [5 * lanes],
        [6 * lanes],
        STREAM,
        beats(5 * lanes),
        lambda x: [[sum(TABLE[b >> 5 * i & 31] << 6 * i for i in range(lanes)) for b in x[0]]],
        2,
        (1, 1),
    )


def cast_table(lanes: int, bits: int, in_w: int) -> Variant:
    """Each lane's place among random thresholds, some of them equal; the ends of the range too."""
    rng = random.Random(bits)
    low, high = -(1 << (in_w - 1)), (1 << (in_w - 1)) - 1
    entries = sorted(rng.choices(range(low, high + 1), k=(1 << bits) - 1))
    packed = sum((t & (1 << in_w) - 1) << (in_w * i) for i, t in enumerate(entries))

    def signed(word: int) -> int:
        return word - (word >> (in_w - 1) << in_w)

    def found(beat: int) -> int:
        words = [beat >> (in_w * i) & ((1 << in_w) - 1) for i in range(lanes)]
        codes = [bisect_right(entries, signed(word)) for word in words]
        return sum(code << (bits * i) for i, code in enumerate(codes))

    def make(r: random.Random) -> list[Beats]:
        near = [low, high, *entries, *(t - 1 for t in entries if t > low)]
        draw = [lambda: r.choice(near), lambda: r.randint(low, high)]
        drawn = ([r.choice(draw)() for _ in range(lanes)] for _ in range(ROWS))
        mask = (1 << in_w) - 1
        return [[sum((x & mask) << (in_w * i) for i, x in enumerate(row)) for row in drawn]]

    return Variant(
        "cast_table",
        {
            "LANES": lanes,
            "IN_W": in_w,
            "BITS": bits,
            "THRESHOLDS": f"{in_w * len(entries)}'h{packed:x}",
        },
        [in_w * lanes],
        [bits * lanes],
        STREAM,
        make,
        lambda x: [[found(beat) for beat in x[0]]],
        bits,
        (1, 1),
    )


AXIS_IN_EARLY = axis_in(4, early=EARLY)
VARIANTS = [
    *(Variant("slice", {"WIDTH": w}, [w], [w], STREAM, beats(w), same, 1, (1, 1)) for w in (1, 64)),
    *(fork(n) for n in (1, 2, 3)),
    *(join(widths) for widths in ([7], [3, 9], [4, 1, 8])),
    *(fifo(depth, registered) for depth in (1, 2, 3, 8) for registered in (0, 1)),
    convert(8, 1, 1, 1),
    convert(8, 1, 4, 8),
    convert(8, 4, 1, 8),
    convert(5, 4, 4, 10),
    convert(3, 2, 8, 5),
    convert(3, 8, 2, 13),
    convert(6, 3, 2, 12),
    convert(6, 2, 3, 12),
    convert(4, 4, 6, 13),
    convert(4, 6, 4, 13),
    convert(7, 1, 8, 3),
    convert(7, 8, 1, 3),
    convert(4, 5, 7, 1),
    repack(8, (1, 1), (3, 12), 12),
    repack(8, (4, 4), (6, 12), 4),
    repack(4, (2, 5), (3, 12), 8),
    repack(4, (4, 4), (12, 3), 4),
    repack(4, (8, 2), (16, 4), 8),
    repack(5, (3, 2), (10, 5), 6),
    concat(8, (1, 1, 1), (1, 1)),
    concat(8, (4, 4, 4), (8, 4)),
    concat(4, (4, 2, 3), (5, 7)),
    concat(4, (2, 3, 6), (7, 4)),
    axis_in(1),
    axis_in(5),
    AXIS_IN_EARLY,
    axis_out(1),
    axis_out(6),
    cast_table(1, 1, 2),
    cast_table(3, 2, 7),
    cast_table(2, 5, 12),
    cast_table(1, 8, 20),
    *(lookup(lanes, block) for lanes, block in ((1, 0), (1, 1), (4, 1))),
]
SOURCES = sorted({f"quire_{v.cell}.sv" for v in VARIANTS} | {"quire_rom.sv", "quire_gearbox.sv"})
INPUTS = [(v, i) for v in VARIANTS for i in range(len(v.in_widths))]
OUTPUTS = [(v, i) for v in VARIANTS for i in range(len(v.out_widths))]


def channels(prefix: str, widths: Sequence[int]) -> list[str]:
    """Declare the nets of a variant's channels."""
    return [
        f"  logic {prefix}{i}_valid, {prefix}{i}_ready;  logic [{w - 1}:0] {prefix}{i}_data;"
        for i, w in enumerate(widths)
    ]


def instance(variant: Variant, first_in: int, first_out: int) -> str:
    """A scope with a variant's nets, its instance and its part of the bench's vectors."""
    lines = [*channels("i", variant.in_widths), *channels("o", variant.out_widths)]
    for i, width in enumerate(variant.in_widths):
        at = first_in + i
        lines.append(f"  assign i{i}_valid = in[{96 * at}];")
        lines.append(f"  assign i{i}_data = in[{96 * at + 32}+:{width}];")
        lines.append(f"  assign in_ready[{32 * at}+:32] = 32'(i{i}_ready);")
    for i in range(len(variant.out_widths)):
        at = first_out + i
        lines.append(f"  assign o{i}_ready = out_ready[{32 * at}];")
        lines.append(f"  assign out[{96 * at}+:96] = {{64'(o{i}_data), 31'b0, o{i}_valid}};")
    ports = {k: v for k, v in variant.ports.items() if not k.startswith("assign")}
    lines += [f"  {k} = {v};" for k, v in variant.ports.items() if k.startswith("assign")]
    if variant.cell == "axis_in":
        lines += [
            "  assign o1_data = '0;",
            "  logic unused_ready;  assign unused_ready = o1_ready;",
        ]
    if variant.clocked:
        ports = {"clk_i": "clk", "rst_ni": "rst_n", **ports}
    parameters = ", ".join(f".{k}({v})" for k, v in variant.parameters.items())
    connections = ", ".join(f".{k}({v})" for k, v in ports.items())
    lines.append(f"  quire_{variant.cell} #({parameters}) dut ({connections});")
    return "\n".join([f"if (1) begin : v{first_in}_{variant.cell}", *lines, "end"])


def bench_text() -> str:
    """The top of the simulation: every variant beside the others."""
    first_in = {id(v): n for n, (v, i) in reversed([*enumerate(INPUTS)]) if i == 0}
    first_out = {id(v): n for n, (v, i) in reversed([*enumerate(OUTPUTS)]) if i == 0}
    scopes = [instance(v, first_in[id(v)], first_out[id(v)]) for v in VARIANTS]
    head = f"""module bench (
  input  logic clk, input logic rst_n,
  input  logic [{96 * len(INPUTS) - 1}:0] in, output logic [{32 * len(INPUTS) - 1}:0] in_ready,
  output logic [{96 * len(OUTPUTS) - 1}:0] out, input logic [{32 * len(OUTPUTS) - 1}:0] out_ready
);"""
    unused = "logic unused;  assign unused = ^{in, out_ready};"
    return "\n".join([head, unused, *scopes, "endmodule\n"])


@dataclass(frozen=True)
class Job:
    """How long to run, the seed, and the chances of a stall at the sources and the sinks."""

    cycles: int
    seed: int
    in_stall: float = 0.0
    out_stall: float = 0.0


@dataclass(frozen=True)
class Seen:
    """What a job saw at one variant: cycles of beats in; beats out and their cycles."""

    sent: list[Beats]
    taken: list[list[int]]
    came: list[Beats]
    cycles: list[list[int]]


class Bench:
    """The built simulation; `run` gives what each job saw at each variant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the first of pytest's workers builds for all
            if not folder.exists():
                self._build()

    def _build(self) -> None:
        folder = self.folder
        folder.mkdir()
        (folder / "mem").mkdir()
        (folder / "mem/table.mem").write_text("".join(f"{word:x}\n" for word in TABLE))
        (folder / "bench.sv").write_text(bench_text())
        flags = f"-DINPUTS={len(INPUTS)} -DOUTPUTS={len(OUTPUTS)}"
        arguments = ["--cc", "--exe", "--assert", "--top-module", "bench", "--Mdir", "obj"]
        arguments += ["-Wno-fatal", "-CFLAGS", flags, "-y", str(RTL), "bench.sv"]
        run_verilator(
            [*arguments, str(HERE / "stream_bench.cpp")], folder, folder / "verilator.log"
        )
        # One translation unit, unoptimised: the build takes longer than the simulation.
        settings = {f"OPT_{kind}": "-O0" for kind in ("FAST", "SLOW", "GLOBAL")}
        settings["VM_PARALLEL_BUILDS"] = "0"
        run_make(folder / "obj/Vbench.mk", "Vbench", settings, folder / "make.log")

    def run(self, *jobs: Job) -> list[dict[str, Seen]]:
        """Run jobs one after the other in one process; an assertion in a cell that fails raises."""
        sent = [self._beats(job) for job in jobs]
        words = [
            word
            for job, beats in zip(jobs, sent, strict=True)
            for word in (
                *(job.cycles, job.seed, int(job.in_stall * 2**32), int(job.out_stall * 2**32)),
                *(w for v, i in INPUTS for w in (len(beats[v.name][i]), *beats[v.name][i])),
            )
        ]
        job_bytes = struct.pack(f"<{len(words)}Q", *words)
        program = self.folder / "obj/Vbench"
        done = subprocess.run([program], cwd=self.folder, input=job_bytes, capture_output=True)
        assert done.returncode == 0, done.stderr.decode() + done.stdout[-500:].decode("latin1")
        assert not done.stderr, done.stderr.decode()
        answer = iter(struct.unpack(f"<{len(done.stdout) // 8}Q", done.stdout))
        return [self._seen(beats, answer) for beats in sent]

    def _beats(self, job: Job) -> dict[str, list[Beats]]:
        return {v.name: v.make(random.Random(f"{job.seed} {v.name}")) for v in VARIANTS}

    def _seen(self, sent: dict[str, list[Beats]], answer: Iterator[int]) -> dict[str, Seen]:
        taken = {(v.name, i): [next(answer) for _ in range(next(answer))] for v, i in INPUTS}
        out = {(v.name, i): [next(answer) for _ in range(2 * next(answer))] for v, i in OUTPUTS}
        return {
            v.name: Seen(
                sent[v.name],
                [taken[v.name, i] for i in range(len(v.in_widths))],
                [out[v.name, i][1::2] for i in range(len(v.out_widths))],
                [out[v.name, i][::2] for i in range(len(v.out_widths))],
            )
            for v in VARIANTS
        }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    base = tmp_path_factory.getbasetemp()  # with pytest-xdist, each worker's own
    return Bench((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "stream_bench")


STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9)]
FREE = Job(6000, seed=1)  # without stalls
JOBS = [FREE, *(Job(6000, seed, *stalls) for seed, stalls in enumerate(STALLS * 2, start=2))]
# A job that ends in the middle, and one more: nothing of the first may show in the second.
CUT = [Job(17, seed=20, out_stall=0.5), Job(6000, seed=21, in_stall=0.2, out_stall=0.2)]


@pytest.fixture(scope="module")
def seen(bench: Bench) -> list[dict[str, Seen]]:
    return bench.run(*JOBS)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_beats_come_once_and_in_order_under_stalls(
    variant: Variant, seen: list[dict[str, Seen]]
) -> None:
    for run in seen:
        one = run[variant.name]
        expected = variant.model(one.sent)
        assert all(expected)
        assert one.came[: len(expected)] == expected
        assert [len(taken) for taken in one.taken] == [len(sent) for sent in one.sent]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_latency_and_interval_without_stalls(variant: Variant, seen: list[dict[str, Seen]]) -> None:
    one = seen[JOBS.index(FREE)][variant.name]
    came, cycles = variant.interval
    for out in one.cycles[: len(variant.model(one.sent))]:
        assert out[0] - one.taken[0][0] == variant.latency
        steady = out[2 * came :]  # the first rows fill the buffers
        assert len(steady) > came
        gaps = {later - earlier for earlier, later in zip(steady, steady[came:], strict=False)}
        assert gaps == {cycles}


def test_stalls_do_stall(seen: list[dict[str, Seen]]) -> None:
    free, *stalled = (run[VARIANTS[0].name].cycles[0][-1] for run in seen)
    assert min(stalled[1:6]) > 1.4 * free


def test_reset_drops_what_is_in_flight(bench: Bench) -> None:
    cut, after = bench.run(*CUT)
    assert any(len(cut[v.name].came[0]) < len(cut[v.name].taken[0]) for v in VARIANTS)
    for variant in VARIANTS:
        one = after[variant.name]
        expected = variant.model(one.sent)
        assert one.came[: len(expected)] == expected, variant.name


def test_error_is_raised_by_an_early_tlast_and_stays(seen: list[dict[str, Seen]]) -> None:
    for job, run in zip(JOBS, seen, strict=True):
        for variant in VARIANTS:
            if variant.cell == "axis_in" and variant is not AXIS_IN_EARLY:
                assert run[variant.name].cycles[1] == []
        one = run[AXIS_IN_EARLY.name]
        first = one.taken[0][EARLY] + 1
        if not job.out_stall:
            assert one.cycles[1] == list(range(first, job.cycles))
        else:  # seen only where the sink is ready, and then until the end
            assert first <= one.cycles[1][0] < first + 100
            assert one.cycles[1][-1] > job.cycles - 100


def test_cells_are_lint_clean(bench: Bench, tmp_path: Path) -> None:
    """In Verilator with every warning, slang and Yosys's own front end."""
    folder = tmp_path
    (folder / "mem").symlink_to(bench.folder / "mem")
    (folder / "bench.sv").write_text(bench_text())
    sources = [str(RTL / source) for source in SOURCES]
    lint = ["--lint-only", "-Wall", "--top-module", "bench", "bench.sv", *sources]
    run_verilator(lint, folder, folder / "lint.log")
    run_slang(["--top", "bench", "-Werror", "bench.sv", *sources], folder, folder / "slang.log")
    script = f"read_verilog -sv {' '.join(sources)} bench.sv\nhierarchy -check -top bench\nproc\n"
    run_yosys(script + "check -assert\n", folder, folder / "yosys.log")
    assert "Warning" not in (folder / "yosys.log").read_text()


@pytest.mark.parametrize("block", [0, 1])
def test_rom_lies_where_block_says(block: int, tmp_path: Path) -> None:
    (tmp_path / "table.mem").write_text("".join(f"{i * 37 % 256:x}\n" for i in range(256)))
    parameters = f'-set DEPTH 256 -set BLOCK {block} -set FILE "table.mem"'
    script = f"""read_verilog -sv {RTL / "quire_rom.sv"}
chparam {parameters} quire_rom
synth_xilinx -family xc7 -top quire_rom -run begin:map_ffram
tee -o count.txt select -count t:RAMB18E1
"""
    run_yosys(script, tmp_path, tmp_path / "yosys.log")
    assert (tmp_path / "count.txt").read_text().split() == [str(block), "objects."]
