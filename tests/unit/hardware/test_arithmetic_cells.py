"""Decoders, casts and sums in SystemVerilog, against the formats and exact integers, to the bit.

All cells, each with several sets of parameters, are instances of one generated top (the bank), so
that Verilator and the C++ compiler run once.
"""

import ctypes
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

import quire.hardware
from quire.errors import HardwareError
from quire.formats import parse
from quire.formats.base import Scalar
from quire.formats.binary import Binary, Ternary
from quire.formats.denormed import DenormedMinifloat
from quire.formats.fixed import Fixed, UFixed
from quire.formats.log import Log
from quire.formats.minifloat import Minifloat
from quire.formats.table import Table
from quire.hardware.toolchain import run_make, run_slang, run_verilator, run_yosys
from quire.ops.exact_arithmetic import add
from quire.ops.exact_value import Exact, from_integer
from quire.precision.exact import exact_cast

RTL = Path(quire.hardware.__file__).parent / "rtl"
WORD = 32
EXHAUSTIVE = 13  # the widest input of a cast of which every value is tried
SAMPLES = 3000

Values = list[int]
F = TypeVar("F")


@dataclass(frozen=True)
class Port:
    """A flat port: one field of `width` bits a lane; `shared` ports have one field in all."""

    name: str
    width: int
    shared: bool = False


@dataclass(frozen=True)
class Case:
    """A cell with parameters, what it is given, and what it must answer.

    stimuli: for each input port its values (patterns of bits, or negative), one an element.
    expected: from the values of the outputs, those that are right, in the same order; where an
        output may take several values, from the observed ones one that is right.
    """

    cell: str
    parameters: dict[str, int | str]
    lanes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stimuli: Callable[[], tuple[Values, ...]]
    expected: Callable[[tuple[Values, ...], tuple[Values, ...]], tuple[Values, ...]]

    def __str__(self) -> str:
        values = [f"{name.lower()}{value}" for name, value in self.parameters.items()]
        short = [text for text in values if "'" not in text]
        return "-".join([self.cell.removeprefix("quire_"), f"lanes{self.lanes}", *short])

    @cached_property
    def given(self) -> tuple[Values, ...]:
        return self.stimuli()

    @property
    def beats(self) -> int:
        return -(-len(self.given[0]) // self.lanes)

    def fields(self, port: Port) -> int:
        return 1 if port.shared else self.lanes

    def words(self, port: Port) -> int:
        return -(-port.width * self.fields(port) // WORD)


# Values and bits


def to_words(values: Values, port: Port, fields: int, beats: int) -> np.ndarray:
    """uint32 (beats, words): `fields` values a beat, the first in the low bits."""
    size = -(-port.width // 8)
    modulus = 1 << port.width
    values = values + [0] * (beats * fields - len(values))
    data = b"".join((value % modulus).to_bytes(size, "little") for value in values)
    octets = np.frombuffer(data, np.uint8).reshape(-1, size)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, : port.width].reshape(beats, -1)
    bits = np.pad(bits, [(0, 0), (0, -bits.shape[1] % WORD)])
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")


def from_words(words: np.ndarray, port: Port, fields: int) -> Values:
    """The inverse of `to_words`; values are patterns of bits."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, : port.width * fields]
    octets = np.packbits(bits.reshape(-1, port.width), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in octets]


def signed(value: int, width: int) -> int:
    return value - (value >> (width - 1) << width)


def integers(width: int, seed: int = 0) -> Values:
    """Every two's complement integer of a width, or ends, powers of two, ties and random ones."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if width <= EXHAUSTIVE:
        return list(range(low, high + 1))
    source = random.Random(seed)
    roots = [math.isqrt(2 << (2 * k)) for k in range(width)]
    bases = [0, low, high, *roots, *(3 << k for k in range(width)), *(1 << k for k in range(width))]
    for _ in range(SAMPLES):
        length = source.randrange(1, width)
        bases.append(source.getrandbits(length) << source.randrange(width - length))
    near = {sign * base + step for base in bases for sign in (1, -1) for step in (-1, 0, 1)}
    return sorted(value for value in near if low <= value <= high)


# References


def exact_integers(values: Values, exponent: int) -> Exact:
    """values * 2^exponent, of any width."""
    total = from_integer(torch.zeros(len(values), dtype=torch.int64))
    for k in range(0, max(abs(value).bit_length() for value in values) + 1, 32):
        parts = [(-1 if value < 0 else 1) * (abs(value) >> k & 0xFFFFFFFF) for value in values]
        total = add(total, from_integer(torch.tensor(parts), exponent + k))
    return total


def rounded_codes(
    fmt: Scalar, drop: int, lowest: float | None, given: tuple[Values, ...], _: tuple[Values, ...]
) -> tuple[Values]:
    """The codes of integers whose lowest `drop` bits lie below the format's last place."""
    x = exact_integers(given[0], fmt.quantum_exponent - drop)
    if lowest is None:
        origin = exact_cast(x, str(fmt)).origin
        assert origin is not None
        values = origin.emitted
    else:
        values = fmt.round(x.to_sticky_float64(), lowest)
    return ((fmt.codes_of(values) & (2**fmt.bits - 1)).tolist(),)


def finite_codes(fmt: Scalar) -> Values:
    codes = torch.arange(2**fmt.bits)
    return codes[fmt.values_of(codes).isfinite()].tolist()


def same_value(
    fmt: Scalar, sig_width: int, given: tuple[Values, ...], observed: tuple[Values, ...]
) -> tuple[Values, ...]:
    """What was observed where it means the code's value; else the value's odd part and exponent."""
    values = fmt.values_of(torch.tensor(given[0])).tolist()
    right: list[tuple[int, int]] = []
    for value, sig, shift in zip(values, *observed, strict=True):
        integer = int(math.ldexp(value, -fmt.quantum_exponent))
        is_right = signed(sig, sig_width) << shift == integer
        right.append((sig, shift) if is_right else (integer, 0))
    sigs, shifts = zip(*right, strict=True)
    return list(sigs), list(shifts)


# The cells


def decoder(fmt: Scalar, lanes: int, sig: int, shift: int = 1, **parameters: int | str) -> Case:
    return Case(
        f"quire_decode_{family(fmt)}",
        parameters,
        lanes,
        (Port("code_i", fmt.bits),),
        (Port("sig_o", sig), Port("shift_o", shift)),
        lambda: (finite_codes(fmt),),
        partial(same_value, fmt, sig),
    )


FAMILIES = {
    Fixed: "fixed",
    UFixed: "ufixed",
    Minifloat: "minifloat",
    DenormedMinifloat: "dmf",
    Log: "log",
    Binary: "binary",
    Ternary: "ternary",
    Table: "table",
}


def family(fmt: Scalar) -> str:
    return FAMILIES[type(fmt)]


def decoders() -> list[Case]:
    cases = [decoder(Binary(), lanes, 2) for lanes in (1, 3)]
    cases += [decoder(Ternary(), lanes, 2) for lanes in (1, 3)]
    for w, lanes in ((2, 1), (3, 3), (8, 1), (16, 3)):
        cases.append(decoder(Fixed(w, 1), lanes, w, BITS=w))
        cases.append(decoder(UFixed(w - 1, 1), lanes, w, BITS=w - 1))
    for w, lanes in ((2, 1), (3, 3), (8, 3), (10, 1)):
        cases.append(decoder(Log(w), lanes, 2, w - 1, BITS=w))
    for e, m, lanes in (
        (1, 0, 1),
        (1, 3, 3),
        (2, 1, 1),
        (4, 3, 3),
        (5, 10, 1),
        (8, 0, 3),
        (8, 7, 1),
    ):
        cases.append(decoder(Minifloat(e, m), lanes, m + 2, e, E=e, M=m))
    for fmt in map(minifloat, ("fp16", "bf16", "fp8_e5m2", "fp8_e4m3")):
        cases.append(decoder(fmt, 1, fmt.m + 2, fmt.e, E=fmt.e, M=fmt.m))
    for e, m, lanes in ((1, 1, 1), (2, 1, 3), (4, 3, 3), (3, 7, 1), (8, 2, 1)):
        cases.append(decoder(DenormedMinifloat(e, m), lanes, m + 1, e, E=e, M=m))
    nf4 = Table("nf4")
    unit = 2.0**-nf4.quantum_exponent
    sigs = [int(value * unit) for value in nf4.entries]
    width = max(abs(sig).bit_length() for sig in sigs) + 1
    values = packed(sigs, width)
    cases += [decoder(nf4, k, width, BITS=4, SIG_W=width, VALUES=values) for k in (1, 3)]
    return cases


def minifloat(text: str) -> Minifloat:
    fmt = parse(text)
    assert isinstance(fmt, Minifloat)
    return fmt


def packed(values: Sequence[int], width: int) -> str:
    """A constant of equal fields, the first in the low bits."""
    total = sum((value % (1 << width)) << (k * width) for k, value in enumerate(values))
    return f"{len(values) * width}'h{total:X}"


def caster(
    fmt: Scalar,
    lanes: int,
    width: int,
    drop: int,
    lowest: float | None = None,
    **parameters: int | str,
) -> Case:
    return Case(
        f"quire_cast_{family(fmt)}",
        {"IN_W": width, **parameters},
        lanes,
        (Port("x_i", width),),
        (Port("code_o", fmt.bits),),
        lambda: (integers(width),),
        partial(rounded_codes, fmt, drop, lowest),
    )


# (lanes, IN_W, DROP): narrow and wide, nothing to drop, and more to drop than there is.
NARROW = ((1, 2, 0), (3, 2, 3), (1, 12, 0), (3, 13, 20), (1, 5, 1), (1, 12, 7), (3, 9, 4))
WIDE = ((3, 33, 0), (1, 40, 17), (1, 64, 0), (3, 47, 30), (1, 64, 40), (1, 24, 8))


def grids(formats: Sequence[F]) -> Iterator[tuple[F, int, int, int]]:
    """Each format on three narrow grids and three wide ones, which take turns."""
    for place, fmt in enumerate(formats):
        for k in range(3):
            yield (fmt, *NARROW[(3 * place + k) % len(NARROW)])
            yield (fmt, *WIDE[(place + 2 * k) % len(WIDE)])


def casts() -> list[Case]:
    return [
        *fixed_casts(),
        *minifloat_casts(),
        *dmf_casts(),
        *log_casts(),
        *sign_casts(),
    ]


def fixed_casts() -> list[Case]:
    cases: list[Case] = []
    for w, lanes, width, drop in grids((2, 3, 8, 16)):
        fmt, unsigned = Fixed(w, 3), UFixed(w - 1, 3)
        each = {"DROP": drop, "BITS": w}
        cases.append(caster(fmt, lanes, width, drop, **each, SYMMETRIC=0))
        cases.append(caster(fmt, lanes, width, drop, -fmt.highest, **each, SYMMETRIC=1))
        cases.append(caster(unsigned, lanes, width, drop, DROP=drop, BITS=w - 1))
    return cases


def minifloat_casts() -> list[Case]:
    sizes = ((1, 0), (1, 3), (2, 0), (2, 1), (3, 0), (4, 3), (5, 2), (8, 0), (8, 7))
    formats = [Minifloat(e, m) for e, m in sizes]
    formats += [Minifloat(5, 0, bias=14), *map(minifloat, ("fp16", "bf16", "fp8_e5m2", "fp8_e4m3"))]
    cases: list[Case] = []
    for fmt, lanes, width, drop in grids(formats):
        largest = int(fmt.codes_of(torch.tensor(fmt.highest, dtype=torch.float64)))
        fields = {"DROP": drop, "E": fmt.e, "M": fmt.m, "MAX_CODE": largest}
        cases.append(caster(fmt, lanes, width, drop, **fields))
    return cases


def dmf_casts() -> list[Case]:
    sizes = ((1, 1), (2, 1), (3, 1), (2, 3), (4, 3), (3, 7), (8, 2))
    return [
        caster(DenormedMinifloat(e, m), lanes, width, drop, DROP=drop, E=e, M=m)
        for (e, m), lanes, width, drop in grids(sizes)
    ]


def log_casts() -> list[Case]:
    widest = [(8, 1, 128, 0), (10, 1, 128, 60), (8, 1, 100, 110)]
    return [
        caster(Log(w), lanes, width, drop, DROP=drop, BITS=w)
        for w, lanes, width, drop in (*grids((2, 3, 4, 8, 10)), *widest)
    ]


def sign_casts() -> list[Case]:
    cases = [caster(Binary(), lanes, width, 0) for lanes, width, _ in NARROW + WIDE]
    cases += [
        caster(Ternary(), lanes, width, drop, DROP=drop) for lanes, width, drop in NARROW + WIDE
    ]
    return cases


def aligners() -> list[Case]:
    cases: list[Case] = []
    shapes = (
        (1, 5, 4, 1, 24),
        (3, 2, 7, 4, 60),
        (1, 8, 1, 1, 8),
        (3, 5, 3, 6, 80),
        (1, 1, 1, 3, 12),
    )
    for lanes, sig, shift, scale, out in shapes:
        ports = (Port("sig_i", sig), Port("shift_i", shift), Port("scale_i", scale, shared=True))
        names = {"SIG_W": sig, "SHIFT_W": shift, "SCALE_W": scale, "OUT_W": out}

        def stimuli(lanes: int = lanes, sig: int = sig, shift: int = shift, scale: int = scale):
            source = random.Random(sig)
            scales = [source.getrandbits(scale) for _ in range(SAMPLES // lanes)]
            count = len(scales) * lanes
            sigs = [signed(source.getrandbits(sig), sig) for _ in range(count)]
            return sigs, [source.getrandbits(shift) for _ in range(count)], scales

        def expected(given: tuple[Values, ...], _: object, lanes: int = lanes, out: int = out):
            sigs, shifts, scales = given
            pairs = enumerate(zip(sigs, shifts, strict=True))
            return ([(s << (h + scales[k // lanes])) % (1 << out) for k, (s, h) in pairs],)

        outputs = (Port("x_o", out),)
        cases.append(Case("quire_align", names, lanes, ports, outputs, stimuli, expected))
    return cases


def two_operands(cell: str, meaning: Callable[[int, int], int]) -> list[Case]:
    cases: list[Case] = []
    shapes = ((1, 2, 3, 0, 0, 6), (3, 8, 5, 3, 0, 14), (1, 6, 6, 0, 5, 17), (3, 30, 20, 2, 1, 64))
    for lanes, a, b, a_shift, b_shift, out in shapes:
        names = {"A_W": a, "B_W": b, "A_SHIFT": a_shift, "B_SHIFT": b_shift, "OUT_W": out}

        def stimuli(a: int = a, b: int = b):
            source = random.Random(a)
            firsts, seconds = integers(a)[:SAMPLES], integers(b)[-SAMPLES:]
            extremes = [(x, y) for x in (firsts[0], -1, 0, 1) for y in (seconds[-1], -1, 0, 1)]
            random_pairs = [(source.choice(firsts), source.choice(seconds)) for _ in range(SAMPLES)]
            x, y = zip(*extremes, *random_pairs, strict=True)
            return list(x), list(y)

        def expected(
            given: tuple[Values, ...],
            _: object,
            shifts: tuple[int, int] = (a_shift, b_shift),
            out: int = out,
        ):
            pairs = zip(*given, strict=True)
            sums = (meaning(x << shifts[0], y << shifts[1]) % (1 << out) for x, y in pairs)
            return (list(sums),)

        ports = (Port("a_i", a), Port("b_i", b))
        cases.append(Case(cell, names, lanes, ports, (Port("x_o", out),), stimuli, expected))
    return cases


def relus() -> list[Case]:
    cases: list[Case] = []
    for lanes, width in ((1, 1), (3, 2), (1, 8), (3, 40)):

        def expected(given: tuple[Values, ...], _: object):
            return ([max(x, 0) for x in given[0]],)

        ports = (Port("x_i", width),), (Port("x_o", width),)
        stimuli = partial(lambda width: (integers(width),), width)
        cases.append(Case("quire_relu", {"WIDTH": width}, lanes, *ports, stimuli, expected))
    return cases


CASES = [
    *decoders(),
    *casts(),
    *aligners(),
    *relus(),
    *two_operands("quire_add", lambda a, b: a + b),
    *two_operands("quire_mul", lambda a, b: a * b),
]
CELLS = sorted({case.cell for case in CASES} | {"quire_normalize"})


# The bank


def bank(cases: Sequence[Case]) -> str:
    """A top in which every port of every case has words of its own in two flat vectors."""
    lines: list[str] = []
    places = {"in_i": 0, "out_o": 0}
    for number, case in enumerate(cases):
        ports: list[str] = []
        for flat, group in (("in_i", case.inputs), ("out_o", case.outputs)):
            for port in group:
                bits = port.width * case.fields(port)
                ports.append(f".{port.name}({flat}[{places[flat]} +: {bits}])")
                places[flat] += WORD * case.words(port)
        names = {"LANES": case.lanes, **case.parameters}
        parameters = ", ".join(f".{name}({value})" for name, value in names.items())
        lines.append(f"  {case.cell} #({parameters}) u_{number} ({', '.join(ports)});")
    header = ", ".join(
        f"{way} logic [{places[flat] - 1}:0] {flat}"
        for way, flat in (("input", "in_i"), ("output", "out_o"))
    )
    # Words of the ports are longer than what they carry.
    off, on = (f"/* verilator lint_{way} UNUSEDSIGNAL,UNDRIVEN */" for way in ("off", "on"))
    return "\n".join([off, f"module bank ({header});", *lines, "endmodule", on, ""])


HARNESS = """
#include <cstring>
#include "Vbank.h"
extern "C" void run(const char* in, char* out, long beats) {
    VerilatedContext context;
    Vbank model(&context);
    for (long k = 0; k < beats; ++k) {
        std::memcpy(model.in_i.data(), in + k * sizeof(model.in_i), sizeof(model.in_i));
        model.eval();
        std::memcpy(out + k * sizeof(model.out_o), model.out_o.data(), sizeof(model.out_o));
    }
    model.final();
}
"""


def simulate(
    sources: list[str], cases: Sequence[Case], folder: Path
) -> dict[int, tuple[Values, ...]]:
    """The outputs of every case, by its place."""
    (folder / "harness.cpp").write_text(HARNESS)
    options = ["--cc", "--exe", "--top", "bank", "--Mdir", "build", "--output-split", "20000"]
    options += ["-CFLAGS", "-fPIC", "-LDFLAGS", "-shared", "-Wno-lint", "-o", "bank.so"]
    run_verilator([*options, "harness.cpp", *sources], folder, folder / "verilator.log")
    # Building takes longer than running.
    run_make(folder / "build" / "Vbank.mk", "bank.so", {"OPT_FAST": "-O1"}, folder / "make.log")
    library = ctypes.CDLL(str(folder / "build" / "bank.so"))
    beats = max(case.beats for case in cases)
    given = [
        to_words(values, port, case.fields(port), beats)
        for case in cases
        for port, values in zip(case.inputs, case.given, strict=True)
    ]
    stimuli = np.ascontiguousarray(np.concatenate(given, axis=1))
    width = sum(case.words(port) for case in cases for port in case.outputs)
    answers = np.zeros((beats, width), np.uint32)
    library.run(
        ctypes.c_void_p(stimuli.ctypes.data),
        ctypes.c_void_p(answers.ctypes.data),
        ctypes.c_long(beats),
    )
    results: dict[int, tuple[Values, ...]] = {}
    place = 0
    for number, case in enumerate(cases):
        outputs: list[Values] = []
        for port in case.outputs:
            words = answers[: case.beats, place : place + case.words(port)]
            outputs.append(from_words(words, port, case.fields(port))[: len(case.given[0])])
            place += case.words(port)
        results[number] = tuple(outputs)
    return results


SOURCES = [str(RTL / f"{cell}.sv") for cell in CELLS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    (folder / "bank.sv").write_text(bank(CASES))
    return folder


@pytest.fixture(scope="module")
def simulated(folder: Path) -> dict[int, tuple[Values, ...]]:
    return simulate(["bank.sv", *SOURCES], CASES, folder)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_cell_equals_its_reference(number: int, simulated: dict[int, tuple[Values, ...]]):
    case, observed = CASES[number], simulated[number]
    expected = case.expected(case.given, observed)
    assert len(expected) == len(observed)
    for port, right, seen in zip(case.outputs, expected, observed, strict=True):
        assert len(right) == len(seen) > 0
        wrong = [
            (case.given[0][k], want, got)
            for k, (want, got) in enumerate(zip(right, seen, strict=True))
            if want != got
        ]
        assert not wrong, (
            f"{port.name}: {len(wrong)} of {len(seen)}: (given, want, got) {wrong[:8]}"
        )


@pytest.mark.nightly
def test_yosys_reads_the_cells_as_verilator_does(tmp_path: Path):
    (tmp_path / "bank.sv").write_text(bank(CASES))
    script = [f"read_verilog -sv bank.sv {' '.join(SOURCES)}", "hierarchy -check -top bank"]
    script += ["proc", "write_verilog -noattr netlist.v", ""]
    run_yosys("\n".join(script), tmp_path, tmp_path / "yosys.log")
    answers = simulate(["netlist.v"], CASES, tmp_path)
    wrong = [
        str(case)
        for number, case in enumerate(CASES)
        if case.expected(case.given, answers[number]) != answers[number]
    ]
    assert not wrong


# Lint and parameters


LINT = ("--lint-only", "-Wall", "--top")
# A width cast that changes nothing for these parameters does for others.
SLANG = ("-Wextra", "-Werror", "-Wno-useless-cast", "--top")


@pytest.mark.parametrize("cell", CELLS)
def test_every_tool_accepts_the_cell_with_default_parameters(cell: str, tmp_path: Path):
    others = [] if cell == "quire_normalize" else [str(RTL / "quire_normalize.sv")]
    sources = [str(RTL / f"{cell}.sv"), *others]
    run_verilator([*LINT, cell, *sources], tmp_path, tmp_path / "verilator.log")
    run_slang([*SLANG, cell, *sources], tmp_path, tmp_path / "slang.log")
    script = [f"read_verilog -sv {' '.join(sources)}", f"hierarchy -check -top {cell}", "proc"]
    log = tmp_path / "yosys.log"
    run_yosys("\n".join([*script, "check -assert", ""]), tmp_path, log)
    assert "Warning" not in log.read_text()


def test_lint_is_silent_with_all_parameters_of_the_bank(folder: Path):
    run_verilator([*LINT, "bank", "bank.sv", *SOURCES], folder, folder / "lint.log")
    run_slang([*SLANG, "bank", "bank.sv", *SOURCES], folder, folder / "slang.log")
    assert "%Warning" not in (folder / "lint.log").read_text()
    assert "0 errors, 0 warnings" in (folder / "slang.log").read_text()


REFUSED = [
    *(
        (cell, "LANES", 0, "LANES must be at least 1")
        for cell in CELLS
        if cell != "quire_normalize"
    ),
    ("quire_normalize", "KEEP", 0, "KEEP must be at least 1"),
    ("quire_decode_minifloat", "E", 0, "E must be at least 1"),
    ("quire_cast_minifloat", "M", 30, "E + M must be at most 31"),
    ("quire_cast_fixed", "SYMMETRIC", 2, "SYMMETRIC must be 0 or 1"),
    ("quire_cast_log", "IN_W", 140, "IN_W must be at most 129"),
    ("quire_add", "OUT_W", 7, "OUT_W must be at least A_W and B_W"),
]


@pytest.mark.parametrize(("cell", "parameter", "value", "message"), REFUSED)
def test_a_parameter_out_of_range_is_refused(
    cell: str, parameter: str, value: int, message: str, tmp_path: Path
):
    options = ["--lint-only", "-Wno-lint", f"-G{parameter}={value}", "--top", cell]
    sources = sorted({str(RTL / f"{cell}.sv"), str(RTL / "quire_normalize.sv")})
    with pytest.raises(HardwareError, match="Verilator failed"):
        run_verilator([*options, *sources], tmp_path, tmp_path / "log")
    assert f"{cell}: {message}" in (tmp_path / "log").read_text()
