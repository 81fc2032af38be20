"""The stream cells are proved by induction, for all inputs, stalls and resets; each proof can fail.

The properties are assertions in the cells; formal/ holds the assumptions about what surrounds a
cell, and what spans a cell and the one inside it. A mutation breaks a cell on purpose: the named
assertion, alone, must then fail from reset within a few cycles.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from quire.errors import HardwareError
from quire.hardware.toolchain import run_yosys

HERE = Path(__file__).parent
RTL = HERE.parents[2] / "src/quire/hardware/rtl"
STEPS = 8  # longest induction, and longest counterexample
SCRIPT = """read_verilog -formal -sv {sources}
hierarchy -check -top {top} {parameters}
prep -top {top} -flatten -nordff
memory_map -formal
async2sync
dffunmap
chformal -lower
opt_clean
sat -verify -tempinduct -prove-asserts -set-assumes -maxsteps {steps} {top}
"""
ASSERTION = re.compile(r"\b(a_\w+) : assert \([^;]*\);")


@dataclass(frozen=True)
class Proof:
    """A cell, the cells inside it, and the parameters of its formal top."""

    cell: str
    parameters: Mapping[str, int]
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.cell, *(f"{k}={v}" for k, v in self.parameters.items())])


def convert(lanes_in: int, lanes_out: int, row: int, unit: int, capacity: int) -> Proof:
    """A width conversion; `unit` and `capacity` are those of its gearbox, which the top reads."""
    parameters = {"IN_LANES": lanes_in, "OUT_LANES": lanes_out, "ROW": row}
    return Proof("convert", {**parameters, "UNIT": unit, "CAPACITY": capacity}, ("gearbox",))


FIFO = Proof("fifo", {"DEPTH": 3, "REGISTERED": 0})
QUEUE = Proof("fifo", {"DEPTH": 3, "REGISTERED": 1})
DEEP = Proof("fifo", {"DEPTH": 4, "REGISTERED": 0})
FORK = Proof("fork", {"N": 3})
GEARBOX = Proof("gearbox", {"IN_UNITS": 3, "OUT_UNITS": 2, "ROW_UNITS": 5})
CONVERT = convert(2, 3, 7, unit=1, capacity=8)
WIDEN = convert(1, 4, 6, unit=1, capacity=10)
NARROW = convert(4, 2, 6, unit=2, capacity=3)
AXIS_IN = Proof("axis_in", {"BEATS": 3}, ("slice",))
AXIS_OUT = Proof("axis_out", {"BEATS": 3}, ("slice",))
JOIN = Proof("join", {"N": 3})
SLICE = Proof("slice", {})
PROOFS = [
    SLICE,
    FORK,
    Proof("fork", {"N": 1}),
    JOIN,
    Proof("join", {"N": 1}),
    FIFO,
    QUEUE,
    DEEP,
    Proof("fifo", {"DEPTH": 4, "REGISTERED": 1}),
    *(Proof("fifo", {"DEPTH": 1, "REGISTERED": registered}) for registered in (0, 1)),
    GEARBOX,
    Proof("gearbox", {"IN_UNITS": 1, "OUT_UNITS": 3, "ROW_UNITS": 6}),
    CONVERT,
    WIDEN,
    NARROW,
    convert(3, 1, 4, unit=1, capacity=4),
    AXIS_IN,
    Proof("axis_in", {"BEATS": 1}, ("slice",)),
    AXIS_OUT,
    Proof("axis_out", {"BEATS": 1}, ("slice",)),
]


@dataclass(frozen=True)
class Mutation:
    """Break a cell's text, `old` to `new`, and say which assertion must see it."""

    proof: Proof
    assertion: str
    old: str
    new: str


COUNTED = "? '0 : beat_q + BEAT_W'(1);"  # a beat counter that starts again
MUTATIONS = [
    Mutation(SLICE, "a_stable", "= out_ready_i | ~main_valid_q;", "= 1'b1;"),
    Mutation(
        SLICE,
        "a_filled_in_order",
        "skid_valid_q <= 1'b0;\n    end else if (adv",
        "end else if (adv",
    ),
    Mutation(SLICE, "a_count", "<= skid_valid_q | in_valid_i;", "<= in_valid_i;"),
    Mutation(SLICE, "a_no_deadlock", "= ~skid_valid_q;", "= main_valid_q & ~skid_valid_q;"),
    Mutation(SLICE, "a_watched_is_inside", "<= skid_valid_q | in_valid_i;", "<= 1'b1;"),
    Mutation(SLICE, "a_watched_is_next", "<= skid_valid_q ? skid_q : in_data_i;", "<= in_data_i;"),
    Mutation(SLICE, "a_watched_is_last", "if (in_ready_o) skid_q <=", "skid_q <="),
    Mutation(FORK, "a_stable", "& ~done_q;", "& ~{done_q[N-2:0], done_q[N-1]};"),
    Mutation(
        FORK,
        "a_stable_data",
        "out_data_o  = in_data_i;",
        "out_data_o = in_data_i ^ WIDTH'(done_q);",
    ),
    Mutation(FORK, "a_done", "? '0 : done_q | out_ready_i;", "? '0 : out_ready_i;"),
    Mutation(FORK, "a_none_twice", "? '0 : done_q | out_ready_i;", "? '0 : '0;"),
    Mutation(FORK, "a_none_lost", "= &(out_ready_i | done_q);", "= |(out_ready_i | done_q);"),
    Mutation(FORK, "a_no_deadlock", "in_ready_o ? '0 : done_q |", "done_q |"),
    Mutation(FORK, "a_ready_outputs_suffice", "= &(out_ready_i | done_q);", "= &done_q;"),
    Mutation(JOIN, "a_together", "{N{out_valid_o & out_ready_i}};", "{N{out_ready_i}};"),
    Mutation(JOIN, "a_no_deadlock", "= &in_valid_i;", "= &in_valid_i & out_ready_i;"),
    Mutation(JOIN, "a_ready_output_suffices", "{N{out_valid_o & out_ready_i}};", "'0;"),
    Mutation(JOIN, "a_stable", "= &in_valid_i;", "= |in_valid_i;"),
    Mutation(JOIN, "a_once", "{N{out_valid_o & out_ready_i}};", "{N{out_ready_i}};"),
    Mutation(JOIN, "a_data", "out_data_o  = in_data_i;", "out_data_o = ~in_data_i;"),
    Mutation(FIFO, "a_stable", "pop         = out_valid_o & out_ready_i;", "pop = out_valid_o;"),
    Mutation(DEEP, "a_fits", "= fill_q != FILL_W'(DEPTH) ||", "= 1'b1 ||"),
    Mutation(FIFO, "a_count", "if (push != pop)", "if (push || pop)"),
    Mutation(FIFO, "a_read", "(read_q == ADDR_W'(DEPTH - 1))", "(read_q == ADDR_W'(DEPTH))"),
    Mutation(FIFO, "a_write", "(write_q == ADDR_W'(DEPTH - 1))", "(write_q == ADDR_W'(DEPTH))"),
    Mutation(
        FIFO, "a_no_deadlock", "= fill_q != FILL_W'(DEPTH) ||", "= fill_q == FILL_W'(DEPTH) ||"
    ),
    Mutation(QUEUE, "a_comes_out", "(out_ready_i || !valid_q);", "out_ready_i;"),
    Mutation(
        FIFO,
        "a_watched_is_inside",
        "assign out_valid_o = fill_q != '0;",
        "assign out_valid_o = 1'b1;",
    ),
    Mutation(QUEUE, "a_watched_is_next", "data_q <= beats[read_q];", "data_q <= beats[write_q];"),
    Mutation(FIFO, "a_watched_waits", "beats[write_q] <=", "beats[read_q] <="),
    Mutation(GEARBOX, "a_stable", "= out_valid_o & out_ready_i;", "= out_valid_o;"),
    Mutation(
        GEARBOX, "a_no_deadlock", "= fill_q <= FILL_W'(CAPACITY - IN_UNITS);", "= fill_q == '0;"
    ),
    Mutation(GEARBOX, "a_beat", f"beat_q <= last {COUNTED}", "beat_q <= beat_q + BEAT_W'(1);"),
    Mutation(GEARBOX, "a_fits", "= fill_q <= FILL_W'(CAPACITY - IN_UNITS);", "= 1'b1;"),
    Mutation(GEARBOX, "a_count", "push ? base +", "push ? fill_q +"),
    Mutation(GEARBOX, "a_zeros_above", "data_q >> OUT_W;", "data_q;"),
    Mutation(GEARBOX, "a_watched_is_inside", "= fill_q >= need;", "= 1'b1;"),
    Mutation(
        GEARBOX, "a_watched_waits", "push && base == FILL_W'(i)", "push && fill_q == FILL_W'(i)"
    ),
    Mutation(GEARBOX, "a_watched_leaves", "out_data_o  = last ?", "out_data_o  = !last ?"),
    Mutation(CONVERT, "a_in_count", "last ? COUNT_W'(LAST_UNITS)", "last ? '0"),
    Mutation(NARROW, "a_in_fits", ": COUNT_W'(IN_UNITS);", ": COUNT_W'(IN_UNITS + 1);"),
    Mutation(NARROW, "a_in_zeros", "last ? in_data_i & TAIL_MASK :", "last ? in_data_i :"),
    Mutation(WIDEN, "a_in_beat", "if (!rst_ni) beat_q <= '0;", "if (!rst_ni) beat_q <= '1;"),
    Mutation(
        CONVERT, "a_sent", "(sent_q + 8'(OUT_LANES)) % 8'(PADDED);", "sent_q + 8'(OUT_LANES);"
    ),
    Mutation(CONVERT, "a_rows", "last ? COUNT_W'(LAST_UNITS)", "last ? COUNT_W'(IN_UNITS)"),
    Mutation(CONVERT, "a_inside", "push ? base + FILL_W'(in_count_i) : base;", "base;"),
    Mutation(CONVERT, "a_place", "last ? COUNT_W'(LAST_UNITS)", "last ? COUNT_W'(IN_UNITS)"),
    Mutation(CONVERT, "a_value", "push && base == FILL_W'(i)", "push && fill_q == FILL_W'(i)"),
    Mutation(CONVERT, "a_leaves", "last ? data_q[OUT_W-1:0] &", "last ? ~data_q[OUT_W-1:0] &"),
    Mutation(CONVERT, "a_padding", "last ? in_data_i & TAIL_MASK :", "last ? in_data_i :"),
    Mutation(AXIS_IN, "a_beat", f"<= last {COUNTED}", "<= beat_q + BEAT_W'(1);"),
    Mutation(
        AXIS_IN, "a_error", "error_o <= error_o | (tlast_i & ~last);", "error_o <= tlast_i & ~last;"
    ),
    Mutation(AXIS_OUT, "a_beat", f"<= last {COUNTED}", "<= beat_q + BEAT_W'(1);"),
    Mutation(AXIS_OUT, "a_padding", "= TDATA_W'(data);", "= TDATA_W'($signed(data));"),
    Mutation(AXIS_OUT, "a_last", "= beat_q == BEAT_W'(BEATS - 1);", "= beat_q == '0;"),
    Mutation(AXIS_OUT, "a_sent", "(8'(sent_q) + 8'd1) % 8'(BEATS));", "8'(sent_q) + 8'd1);"),
    Mutation(
        AXIS_OUT,
        "a_position",
        "else if (in_valid_i && in_ready_o) beat_q",
        "else if (in_valid_i) beat_q",
    ),
    Mutation(AXIS_OUT, "a_waits", "({last, in_data_i})", "({1'b0, in_data_i})"),
]


def source(cell: str) -> str:
    return (RTL / f"quire_{cell}.sv").read_text()


def prove(proof: Proof, texts: Mapping[str, str], folder: Path) -> str:
    """Prove all assertions of the sources, given by name, by induction; the log of that.

    Raises HardwareError if one fails; the log is prove.log in any case.
    """
    for name, text in texts.items():
        (folder / f"{name}.sv").write_text(text)
    script = SCRIPT.format(
        sources=" ".join(f"{name}.sv" for name in texts),
        top=f"formal_{proof.cell}",
        parameters=" ".join(f"-chparam {k} {v}" for k, v in proof.parameters.items()),
        steps=STEPS,
    )
    log = folder / "prove.log"
    run_yosys(script, folder, log)
    return log.read_text()


def sources(proof: Proof) -> dict[str, str]:
    """The texts of the cells and the formal top of a proof."""
    cells = {f"quire_{cell}": source(cell) for cell in (proof.cell, *proof.inside)}
    top = f"formal_{proof.cell}"
    return {**cells, top: (HERE / "formal" / f"{top}.sv").read_text()}


def keep_only(assertion: str, text: str) -> str:
    """The text without any other assertion."""
    return ASSERTION.sub(lambda found: found[0] if found[1] == assertion else ";", text)


@pytest.mark.parametrize("proof", PROOFS, ids=str)
def test_assertions_hold_for_ever(proof: Proof, tmp_path: Path) -> None:
    texts = sources(proof)
    assert sum(len(ASSERTION.findall(text)) for text in texts.values()) >= 3
    assert "Induction step proven: SUCCESS!" in prove(proof, texts, tmp_path)


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=lambda m: f"{m.proof.cell}-{m.assertion}-{m.new}"
)
def test_a_broken_cell_fails_its_proof(mutation: Mutation, tmp_path: Path) -> None:
    texts = sources(mutation.proof)
    assert sum(text.count(mutation.old) for text in texts.values()) == 1
    broken = {
        name: keep_only(mutation.assertion, text.replace(mutation.old, mutation.new))
        for name, text in texts.items()
    }
    assert sum(len(ASSERTION.findall(text)) for text in broken.values()) == 1
    with pytest.raises(HardwareError):
        prove(mutation.proof, broken, tmp_path)
    # A counterexample from reset, not an induction that is too weak, nor a mistake in the text.
    assert "model found for base case" in (tmp_path / "prove.log").read_text()


def test_every_assertion_is_seen_to_fail() -> None:
    texts = {name: text for proof in PROOFS for name, text in sources(proof).items()}
    stated = {(name, label) for name, text in texts.items() for label in ASSERTION.findall(text)}
    failing = {
        (name, mutation.assertion)
        for mutation in MUTATIONS
        for name, text in sources(mutation.proof).items()
        if mutation.assertion in ASSERTION.findall(text)
    }
    assert stated == failing
