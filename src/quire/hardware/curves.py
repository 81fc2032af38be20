"""What a library cell uses, without synthesis: LUT and FF from fitted curves, DSP and BRAM counted.

A curve is a sum of terms in the cell's parameters with weights of at least 0, fitted to the cell
synthesised alone (`quire.hardware.calibrate`); measurements and weights are in `calibration.json`.
A cell that is not in `MODELS` is made of wires and uses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path

from quire.hardware.netlist import Resources

DATA = Path(__file__).parent / "calibration.json"

Numbers = Mapping[str, int]
Terms = Callable[[Numbers], tuple[float, ...]]


@dataclass(frozen=True)
class Model:
    """Terms of a cell's LUT and FF in its parameters, and what DSP and BRAM it takes."""

    lut: Terms
    ff: Terms
    dsp: Callable[[Numbers], int] = lambda p: 0
    bram: Callable[[Numbers], int] = lambda p: 0


def uses(cell: str, parameters: Mapping[str, int | bool | str]) -> Resources:
    """What a cell with these parameters uses on 7 series."""
    if cell not in MODELS:
        return Resources()
    model = MODELS[cell]
    p = {name: int(value) for name, value in parameters.items() if not isinstance(value, str)}
    weights = _weights()[cell]
    lut, ff = (
        round(sum(w * term for w, term in zip(weights[name], terms(p), strict=True)))
        for name, terms in (("LUT", model.lut), ("FF", model.ff))
    )
    return Resources(lut, ff, model.dsp(p), model.bram(p))


@cache
def _weights() -> Mapping[str, Mapping[str, list[float]]]:
    return json.loads(DATA.read_text())["weights"]


def _log(n: int) -> int:
    """Bits that count to n; 1 at least."""
    return max(1, (n - 1).bit_length())


def products(a: int, b: int, kept: int = 1 << 30) -> int:
    """DSP blocks of a signed a x b bit product of which `kept` bits are used: the rules of Yosys's
    mul2dsp for 25 x 18 bits."""
    wide, narrow = max(a, b), min(a, b)
    if narrow < 2 or min(wide + narrow, kept) < 9:
        return 0
    if wide > 25:
        parts = (wide - 25 + 16) // 17
        return parts * products(18, narrow) + products(wide - 17 * parts, narrow)
    if narrow > 18:
        parts = (narrow - 18 + 16) // 17
        return parts * products(wide, 18) + products(wide, narrow - 17 * parts)
    return 1


def constant_product(bits: int, constant: int, kept: int = 1 << 30) -> int:
    """DSP blocks of a signed product with a constant: its last zeros are wires, and nothing is left
    to multiply by where it is 0 or a power of two, negative ones included."""
    if constant == 0:
        return 0
    zeros = (constant & -constant).bit_length() - 1
    odd = constant >> zeros
    return 0 if abs(odd) == 1 else products(bits, _signed_bits(odd), kept - zeros)


def _signed_bits(number: int) -> int:
    return 1 + max(number, -number - 1).bit_length()


def block_memories(width: int, depth: int) -> int:
    """BRAM18 of a memory with a read and a write port: the fewest that hold it."""
    return _shape(width, depth)[0]


def _shape(width: int, depth: int) -> tuple[int, int]:
    """(BRAM18, memories whose words are chosen from) of the best shape that one can have.

    A RAMB18 holds 512 x 36 to 16384 x 1 bits, a RAMB36 twice as wide ones.
    """
    shapes = [(512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)]
    units = [(1, d, w) for d, w in shapes] + [(2, d, 2 * w) for d, w in shapes]
    return min((n * -(-depth // d) * -(-width // w), -(-depth // d)) for n, d, w in units)


def _nothing(p: Numbers) -> tuple[float, ...]:
    return ()


def _per_lane(*names: str) -> Terms:
    """Lanes times each parameter named, and lanes."""
    return lambda p: (*(p["LANES"] * p[name] for name in names), p["LANES"])


def _shifter(width: int, inputs: int, reach: int) -> float:
    """Multiplexers of a shifter: `width` results, each of one of at most `inputs` bits."""
    return width * max(0, min(inputs, reach + 1) - 1).bit_length()


# ------------------------------------------------------------------------------------- streams
def _slice(p: Numbers) -> tuple[float, ...]:
    return p["WIDTH"], 1


def _axis(p: Numbers) -> tuple[float, ...]:
    return p["WIDTH"], _log(p["BEATS"]), 1


def _distributed(width: int, depth: int) -> float:
    """Lookup tables of a memory that is read without a clock."""
    return width * max(1, depth / 64) if depth > 32 else width * 2 / 3


def _automatic_blocks(width: int, depth: int) -> int:
    """BRAM18 of a memory of no given style: 0 where Yosys finds lookup tables cheaper."""
    distributed = width / 6 if depth <= 32 else width / 3 * -(-depth // 64)
    blocks = block_memories(width, depth) if depth else 0
    return blocks if 129 * blocks < 8 * distributed else 0


def _fifo_bram(p: Numbers) -> int:
    return _automatic_blocks(p["WIDTH"], p["DEPTH"])


def _fifo(p: Numbers) -> tuple[float, ...]:
    width, blocks = p["WIDTH"], _fifo_bram(p)
    memory = 0 if blocks else _distributed(width, p["DEPTH"])
    return memory, width * bool(blocks), _log(p["DEPTH"]), 1


def _fifo_ff(p: Numbers) -> tuple[float, ...]:
    return p["WIDTH"] * bool(_fifo_bram(p)), _log(p["DEPTH"]), 1


def _ports(p: Numbers) -> tuple[float, ...]:
    return p["N"], 1


def _gearbox(unit_w: int, ins: int, outs: int) -> tuple[int, int]:
    """(bits it keeps, bits that its multiplexers choose from)."""
    uneven = ins % outs != 0 and outs % ins != 0
    capacity = ins + outs + min(ins, outs) - 1 + uneven
    places = capacity - ins + 1
    return capacity * unit_w, places * ins * unit_w


def _units(p: Numbers, lanes: tuple[str, str], rows: tuple[str, ...]) -> tuple[int, int, int]:
    unit = gcd(*(p[name] for name in (*lanes, *rows)))
    return unit * p["LANE_W"], p[lanes[0]] // unit, p[lanes[1]] // unit


def _convert(p: Numbers) -> tuple[float, ...]:
    unit_w, ins, outs = _units(p, ("IN_LANES", "OUT_LANES"), ())
    in_beats, out_beats = -(-p["ROW"] // p["IN_LANES"]), -(-p["ROW"] // p["OUT_LANES"])
    most = max(ins, out_beats * outs - (in_beats - 1) * ins)
    kept, chosen = _gearbox(unit_w, most, outs)
    return kept, chosen, _log(in_beats), 1


def _widen(p: Numbers) -> tuple[float, ...]:
    in_beats, ratio = -(-p["ROW"] // p["IN_LANES"]), p["OUT_LANES"] // p["IN_LANES"]
    unused = in_beats * p["IN_LANES"] - p["ROW"]
    return unused * p["LANE_W"], ratio, _log(in_beats), 1


def _widen_ff(p: Numbers) -> tuple[float, ...]:
    return p["OUT_LANES"] * p["LANE_W"], _log(-(-p["ROW"] // p["IN_LANES"])), 1


def _repack(p: Numbers) -> tuple[float, ...]:
    unit_w, ins, outs = _units(p, ("IN_LANES", "OUT_LANES"), ("IN_ROW", "OUT_ROW"))
    kept, chosen = _gearbox(unit_w, ins, outs)
    return kept, chosen, _log(p["IN_ROW"]), 1


def _concat(p: Numbers) -> tuple[float, ...]:
    most = max(p["A_LANES"], p["B_LANES"])
    lanes = {**p, "IN_LANES": most}
    unit = gcd(p["A_LANES"], p["B_LANES"], p["OUT_LANES"], p["A_ROW"], p["B_ROW"])
    kept, chosen = _gearbox(unit * p["LANE_W"], lanes["IN_LANES"] // unit, p["OUT_LANES"] // unit)
    return kept, chosen, most * p["LANE_W"], 1


# ------------------------------------------------------------------------------------- memories
def _distinct(p: Numbers) -> float:
    """Columns of a memory of random content, equal ones counted once."""
    patterns = 2.0 ** min(p["DEPTH"], 64)
    return patterns * (1 - (1 - 1 / patterns) ** p["WIDTH"]) if p["DEPTH"] < 24 else p["WIDTH"]


def _choices(p: Numbers) -> int:
    """Bits that choose one of the block memories that hold a column."""
    return (_shape(p["WIDTH"], p["DEPTH"])[1] - 1).bit_length()


def _rom(p: Numbers) -> tuple[float, ...]:
    """Six address bits, or four words and what chooses one of them, fill a lookup table."""
    if p["BLOCK"]:
        return p["WIDTH"] * ((_choices(p) + 1) // 2), 0
    return 0, _distinct(p) * max(1, p["DEPTH"] / 64)


def _rom_ff(p: Numbers) -> tuple[float, ...]:
    """A block has the first of the two registers inside; a multiplier can have both."""
    if p.get("FEEDS_DSP", 0):
        return (_choices(p) * p["BLOCK"],)
    return (p["WIDTH"] + _choices(p) if p["BLOCK"] else 2 * _distinct(p),)


def _rom_bram(p: Numbers) -> int:
    return block_memories(p["WIDTH"], p["DEPTH"]) * p["BLOCK"]


def _table(p: Numbers) -> Numbers:
    """The ROM in a lane of a look-up."""
    return {"WIDTH": p["OUT_BITS"], "DEPTH": 2 ** p["IN_BITS"], "BLOCK": p["BLOCK"]}


def _lookup(p: Numbers) -> tuple[float, ...]:
    return (*(p["LANES"] * term for term in _rom(_table(p))), 1)


def _lookup_ff(p: Numbers) -> tuple[float, ...]:
    return p["LANES"] * _rom_ff(_table(p))[0], 1


# --------------------------------------------------------------------------- decoders and casts
def _decode_float(p: Numbers) -> tuple[float, ...]:
    return p["LANES"] * p["E"], p["LANES"] * p["M"], p["LANES"]


def _decode_table(p: Numbers) -> tuple[float, ...]:
    return (p["LANES"] * p["SIG_W"] * max(1, 2 ** p["BITS"] / 64), p["LANES"])


def _cast_fixed(p: Numbers) -> tuple[float, ...]:
    top = max(0, p["IN_W"] - p["DROP"] - p["BITS"])
    return tuple(p["LANES"] * term for term in (p["BITS"], p["DROP"], top, 1))


def _cast_float(p: Numbers) -> tuple[float, ...]:
    """A normalising shifter of the bits above DROP, and the rounding of E + M bits."""
    kept = min(p["IN_W"] - p["DROP"], 2 ** p["E"] + p["M"])
    shifts = min(p["E"], _log(max(2, p["IN_W"] - p["DROP"] - p["M"])))
    terms = (kept * shifts, kept, p["IN_W"], p["E"] + p["M"], 1)
    return tuple(p["LANES"] * term for term in terms)


def _cast_table(p: Numbers) -> tuple[float, ...]:
    """Comparisons, and the thresholds that they choose from; SEARCHED: bits that are not known."""
    bits = p.get("SEARCHED", p["BITS"])
    terms = (p["IN_W"] * bits, p["IN_W"] * max(0, bits - 3), p["IN_W"] * 2**bits / 64)
    return tuple(p["LANES"] * term for term in terms)


def _cast_table_ff(p: Numbers) -> tuple[float, ...]:
    """The integer at each comparison but the last, the bits of the code so far, and the thresholds
    that are one of 8 or more; of fewer, most bits are copies of others."""
    codes, read = p["BITS"] * (p["BITS"] + 1) // 2, max(0, p["BITS"] - 3)
    integers = p["LANES"] * p["IN_W"] * (p["BITS"] - 1)
    return integers, p["LANES"] * codes, p["LANES"] * p["IN_W"] * read, p["BITS"]


# ------------------------------------------------------------------------------------ arithmetic
def _align(p: Numbers) -> tuple[float, ...]:
    reach = p["OUT_W"] - p["SIG_W"]
    adder = min(p["SHIFT_W"], p["SCALE_W"]) if p["SCALE_W"] > 1 and p["SHIFT_W"] > 1 else 0
    terms = (p["OUT_W"], _shifter(p["OUT_W"], p["SIG_W"], reach), adder)
    return tuple(p["LANES"] * term for term in terms)


def _add(p: Numbers) -> tuple[float, ...]:
    """A lookup table for each bit of the sum above the lower operand's last place."""
    top = max(p["A_W"] + p["A_SHIFT"], p["B_W"] + p["B_SHIFT"]) + 1
    bits = min(p["OUT_W"], top) - max(p["A_SHIFT"], p["B_SHIFT"])
    return p["LANES"] * bits, p["LANES"]


def _mul(p: Numbers) -> tuple[float, ...]:
    """The blocks that a product is cut into are summed in logic; a small product is all logic."""
    blocks = products(p["A_W"], p["B_W"])
    soft = p["A_W"] * p["B_W"] if blocks == 0 else 0
    return p["LANES"] * soft, p["LANES"] * max(0, blocks - 1) * min(p["A_W"], p["B_W"])


def _mul_dsp(p: Numbers) -> int:
    return p["LANES"] * products(p["A_W"], p["B_W"], p["OUT_W"])


# --------------------------------------------------------------------------------- block scales
def _block_scale(p: Numbers) -> tuple[float, ...]:
    lanes, beat = p["LANES"], p["LANES"] * p["IN_W"]
    shifter = _shifter(p["OUT_W"], p["IN_W"], p["CODE_HIGH"])
    memory = _distributed(beat, 3 * p["BLOCK_BEATS"])
    return beat, lanes * shifter, memory, p["IN_W"], p["CODE_W"], 1


def _block_scale_ff(p: Numbers) -> tuple[float, ...]:
    beat = p["LANES"] * p["IN_W"]
    return p["LANES"] * p["OUT_W"], beat * (p["BLOCK_BEATS"] == 1), p["IN_W"], p["CODE_W"], 1


# ---------------------------------------------------------------------------------- dot products
@dataclass(frozen=True)
class _Linear:
    """Sizes that the parameters of quire_linear imply, named as in the cell."""

    p: Numbers

    @property
    def products(self) -> int:
        return self.p["M_IN"] * self.p["M_OUT"]

    @property
    def is_soft(self) -> bool:
        """Whether products are made of logic."""
        return products(self.p["X_SIG_W"], self.p["W_SIG_W"]) == 0

    @property
    def levels(self) -> int:
        return (self.p["M_IN"] - 1).bit_length()

    @property
    def tree_w(self) -> int:
        return self.p["ALIGNED_W"] + self.levels

    @property
    def beat_w(self) -> int:
        scale = self.p["X_SCALE_W"] * self.p["HAS_SCALE"]
        shift = self.p["M_IN"] * self.p["X_SHIFT_W"] * self.p["HAS_SHIFT"]
        return scale + shift + self.p["M_IN"] * self.p["X_SIG_W"]

    @property
    def reach(self) -> int:
        """Places that a product is shifted by at most."""
        return self.p["ALIGNED_W"] - self.p["X_SIG_W"] - self.p["W_SIG_W"]

    @property
    def has_scale_product(self) -> bool:
        return bool(self.p["HAS_SCALE"]) and not self.p.get("IS_SCALE_UNIT", 0)

    @property
    def has_scale_shift(self) -> bool:
        return bool(self.p["HAS_SCALE"]) and not self.p.get("IS_SHIFT_FIXED", 0)

    def level_bits(self, level: int) -> int:
        """Sum bits of one level of a tree."""
        nodes = -(-self.p["M_IN"] // (1 << level))
        return nodes * (self.p["ALIGNED_W"] + level)

    @property
    def control(self) -> int:
        return _log(self.p["K_BEATS"]) + 2 * _log(self.p["GROUPS"])

    @property
    def stored(self) -> int:
        """Beats of the row buffer."""
        return 0 if self.p["INPUT_MAJOR"] else 2 * self.p["K_BEATS"]

    @property
    def held(self) -> int:
        return self.p["GROUPS"] if self.p["INPUT_MAJOR"] else 1


def tree_bits(p: Numbers) -> int:
    """Bits of a sum of the products of a beat."""
    return _Linear(p).tree_w


def in_blocks(parameters: Mapping[str, int | bool | str]) -> bool:
    """Whether the products of a quire_linear are made in DSP blocks."""
    return products(int(parameters["X_SIG_W"]), int(parameters["W_SIG_W"])) > 0


def _linear(p: Numbers) -> tuple[float, ...]:
    """The first three are of products in logic, of at most 8 bits: 3 x 5 and 4 x 4 take more of it
    than their bits say."""
    x = _Linear(p)
    outs, soft = p["M_OUT"], x.is_soft
    first = x.level_bits(1) if x.levels else 0
    later = sum(x.level_bits(level) for level in range(2, x.levels + 1))
    in_dsp = not soft and not p["HAS_SHIFT"]
    sums = outs * p["ACC_W"]
    scale_soft = x.has_scale_product and products(x.tree_w, p["SCALE_SIG_W"]) == 0
    small, large = sorted((p["X_SIG_W"], p["W_SIG_W"]))
    return (
        x.products * small * large * soft,
        x.products * (large - 3) * (small == 3) * soft,
        x.products * (small > 3) * soft,
        x.products
        * _shifter(p["ALIGNED_W"], p["X_SIG_W"] + p["W_SIG_W"], x.reach)
        * p["HAS_SHIFT"],
        x.products * p["ALIGNED_W"] * p["HAS_SHIFT"],
        outs * first * (not in_dsp),
        outs * first * in_dsp,
        outs * later,
        outs
        * _shifter(p["ACC_W"], x.tree_w + p["SCALE_SIG_W"], p["ACC_W"] - x.tree_w)
        * x.has_scale_shift,
        outs * x.tree_w * p["SCALE_SIG_W"] * scale_soft,
        sums * (x.held == 1),
        sums * (x.held > 1),
        _distributed(sums, x.held) * (x.held > 1),
        _distributed(x.beat_w, x.stored) * (x.stored > 0 and not _linear_bram(p)),
        (p["M_IN"] - p["K_LAST"]) * p["X_SIG_W"],
        x.control,
        1,
    )


def _linear_ff(p: Numbers) -> tuple[float, ...]:
    """Registers, less those that a DSP block has inside: of products, of a pair's sum, of an
    operand that one block reads, of a sum that one block accumulates."""
    x = _Linear(p)
    outs, in_dsp = p["M_OUT"], not x.is_soft and not p["HAS_SHIFT"]
    registered = [n for n in range(1, x.levels + 1) if n % 2 == 0 or n == x.levels]
    tree = sum(x.level_bits(level) for level in registered if level > 1 or not in_dsp)
    accumulates = in_dsp and x.levels == 0 and not p["HAS_SCALE"]
    absorbed = 0 if x.is_soft or outs > 1 else p["M_IN"] * p["X_SIG_W"]
    product_w = p["X_SIG_W"] + p["W_SIG_W"]
    shift_w = max(p["X_SHIFT_W"], p["W_SHIFT_W"]) + 1
    return (
        x.products * product_w * x.is_soft,
        x.products * p["ALIGNED_W"] * p["HAS_SHIFT"],
        x.products * shift_w * p["HAS_SHIFT"],
        outs * tree,
        outs * p["ACC_W"] * p["HAS_SCALE"],
        outs * p["ACC_W"] * (not accumulates),
        x.beat_w * (not _linear_bram(p)),
        x.beat_w - absorbed,
        _log(p["GROUPS"]) * bool(p["INPUT_MAJOR"]),
        x.control,
        1,
    )


def _linear_dsp(p: Numbers) -> int:
    """PRODUCT_DSP, SCALE_DSP: of products with constants."""
    x = _Linear(p)
    scale = products(x.tree_w, p["SCALE_SIG_W"]) if x.has_scale_product else 0
    weights = x.products * products(p["X_SIG_W"], p["W_SIG_W"])
    return p.get("PRODUCT_DSP", weights) + p.get("SCALE_DSP", p["M_OUT"] * scale)


def _linear_bram(p: Numbers) -> int:
    """The row buffer."""
    if p.get("IS_GONE", 0):
        return 0
    width = p["X_SCALE_W"] + p["M_IN"] * (p["X_SHIFT_W"] + p["X_SIG_W"])
    return _automatic_blocks(width, _Linear(p).stored)


_FLOAT = Model(_decode_float, _nothing)

MODELS: Mapping[str, Model] = {
    "quire_add": Model(_add, _nothing),
    "quire_align": Model(_align, _nothing),
    "quire_axis_in": Model(_axis, _axis),
    "quire_axis_out": Model(_axis, _axis),
    "quire_block_scale": Model(_block_scale, _block_scale_ff),
    "quire_cast_binary": Model(_per_lane(), _nothing),
    "quire_cast_dmf": Model(_cast_float, _nothing),
    "quire_cast_fixed": Model(_cast_fixed, _nothing),
    "quire_cast_log": Model(_per_lane("IN_W", "BITS"), _nothing),
    "quire_cast_minifloat": Model(_cast_float, _nothing),
    "quire_cast_table": Model(_cast_table, _cast_table_ff),
    "quire_cast_ternary": Model(_per_lane("IN_W"), _nothing),
    "quire_cast_ufixed": Model(_cast_fixed, _nothing),
    "quire_concat": Model(_concat, _concat),
    "quire_convert": Model(_convert, _convert),
    "quire_decode_dmf": _FLOAT,
    "quire_decode_log": Model(_per_lane("BITS"), _nothing),
    "quire_decode_minifloat": _FLOAT,
    "quire_decode_table": Model(_decode_table, _nothing),
    "quire_decode_ternary": Model(_per_lane(), _nothing),
    "quire_fifo": Model(_fifo, _fifo_ff, bram=_fifo_bram),
    "quire_fork": Model(_ports, _ports),
    "quire_join": Model(_ports, _nothing),
    "quire_linear": Model(_linear, _linear_ff, _linear_dsp, _linear_bram),
    "quire_lookup": Model(_lookup, _lookup_ff, bram=lambda p: p["LANES"] * _rom_bram(_table(p))),
    "quire_mul": Model(_mul, _nothing, _mul_dsp),
    "quire_register": Model(_slice, _slice),
    "quire_relu": Model(_per_lane("WIDTH"), _nothing),
    "quire_repack": Model(_repack, _repack),
    "quire_rom": Model(_rom, _rom_ff, bram=_rom_bram),
    "quire_slice": Model(_slice, _slice),
    "quire_widen": Model(_widen, _widen_ff),
}
"""By cell. The numbers of a string parameter (a table's content) are not looked at."""
