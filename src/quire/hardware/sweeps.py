"""At which parameters each cell is measured for the cost model.

The ranges are those that designs use; the points are drawn from them with a fixed seed, so that a
few dozen cover all parameters.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Point = Mapping[str, int | str]


def _drawn(count: int, draw: Callable[[random.Random], Point]) -> Callable[[], list[Point]]:
    """`count` points, the same ones each time."""
    return lambda: [draw(random.Random(seed)) for seed in range(count)]


def _linear(r: random.Random) -> Point:
    fixed = r.random() < 0.5
    x, w = r.choice((2, 4, 5, 8, 8, 10)), r.choice((2, 3, 4, 5, 8, 8))
    m_in, m_out = r.choice(((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (1, 4), (4, 2)))
    k_beats, groups = r.choice((2, 4, 8, 16, 64)), r.choice((1, 2, 5, 16, 64))
    scaled = r.random() < 0.5
    x_shift, w_shift = r.choice(((4, 0), (3, 3), (4, 4), (2, 2)))
    reach = 0 if fixed else (2**x_shift - 2) + (2**w_shift - 2 if w_shift else 0)
    aligned = min(x + w + reach, 40)
    total = aligned + (k_beats * m_in).bit_length() + (8 if scaled else 0)
    return {
        "K_BEATS": k_beats,
        "K_LAST": r.randint(1, m_in),
        "GROUPS": groups,
        "M_IN": m_in,
        "M_OUT": m_out,
        "INPUT_MAJOR": r.randint(0, 1),
        "ROM_LATENCY": 2,
        "X_SIG_W": x,
        "X_SHIFT_W": 1 if fixed else x_shift,
        "X_SCALE_W": r.choice((1, 4)) if scaled else 1,
        "W_SIG_W": w,
        "W_SHIFT_W": 1 if fixed else max(1, w_shift),
        "HAS_SHIFT": int(not fixed),
        "ALIGNED_W": x + w if fixed else aligned,
        "HAS_SCALE": int(scaled),
        "SCALE_SIG_W": r.choice((2, 2, 9)),
        "SCALE_SHIFT_W": r.choice((2, 4)),
        "BLOCK_BEATS": r.choice((1, 2)),
        "ACC_W": total,
    }


ELEMENTS = ((2, 0), (2, 3), (2, 3), (3, 2), (3, 2), (4, 0), (4, 0), (5, 2), (6, 0), (8, 0))
"""Bits of the significand and of the shift of elements: ternary, log4, e2m1, int4, e2m3, ..."""


def _linear_alike(r: random.Random) -> Point:
    """Input and weight of one format, as most plans have them."""
    sig, shift = r.choice(ELEMENTS)
    m_in, m_out = r.choice(((1, 1), (4, 1), (8, 1), (2, 2), (4, 2)))
    aligned = 2 * (sig + 2**shift - 3) + 1 if shift else 2 * sig
    scaled = r.random() < 0.4
    return {
        **_linear(r),
        "M_IN": m_in,
        "M_OUT": m_out,
        "K_LAST": m_in,
        "K_BEATS": r.choice((4, 8, 16)),
        "GROUPS": r.choice((5, 16, 32)),
        "X_SIG_W": sig,
        "X_SHIFT_W": max(1, shift),
        "X_SCALE_W": 4 if scaled else 1,
        "W_SIG_W": sig,
        "W_SHIFT_W": max(1, shift),
        "HAS_SHIFT": int(shift > 0),
        "ALIGNED_W": aligned,
        "HAS_SCALE": int(scaled),
        "SCALE_SIG_W": 2,
        "SCALE_SHIFT_W": 1,
        "ACC_W": aligned + 5 + 14 * scaled,
    }


def _linear_wide(r: random.Random) -> Point:
    """Many lanes in and integers of few bits, as layers of a fast design have them."""
    soft = ((2, 2), (2, 4), (3, 3), (4, 3), (3, 5), (4, 4), (5, 3))
    x, w = r.choice((*soft, (4, 8), (6, 6), (8, 7)))
    m_in, m_out = r.choice(((8, 1), (11, 1), (16, 1), (22, 1), (32, 1), (8, 2), (11, 2), (16, 2)))
    k_beats = r.choice((2, 3, 6))
    return {
        **_linear(r),
        "K_BEATS": k_beats,
        "K_LAST": r.choice((m_in, m_in // 2)),
        "GROUPS": r.choice((16, 32, 64)),
        "M_IN": m_in,
        "M_OUT": m_out,
        "INPUT_MAJOR": 0,
        "X_SIG_W": x,
        "X_SHIFT_W": 1,
        "X_SCALE_W": 1,
        "W_SIG_W": w,
        "W_SHIFT_W": 1,
        "HAS_SHIFT": 0,
        "ALIGNED_W": x + w,
        "HAS_SCALE": 0,
        "SCALE_SIG_W": 2,
        "SCALE_SHIFT_W": 1,
        "BLOCK_BEATS": 1,
        "ACC_W": x + w + (k_beats * m_in).bit_length(),
    }


def _lanes(r: random.Random) -> int:
    return r.choice((1, 2, 4))


def _convert(r: random.Random) -> Point:
    lanes = r.sample((1, 2, 3, 4, 8), 2)
    row = r.choice((8, 16, 30, 64))
    return {
        "LANE_W": r.choice((4, 8, 12)),
        "IN_LANES": lanes[0],
        "OUT_LANES": lanes[1],
        "ROW": row,
    }


def _widen(r: random.Random) -> Point:
    lanes, ratio = r.choice((1, 2, 4)), r.choice((2, 3, 4, 8))
    return {
        "LANE_W": r.choice((4, 8, 12)),
        "IN_LANES": lanes,
        "OUT_LANES": lanes * ratio,
        "ROW": r.choice((16, 30, 64, 65)),
    }


def _repack(r: random.Random) -> Point:
    lanes = r.choice((2, 4, 8))
    rows = r.choice(((10, 15), (12, 6), (9, 6), (16, 20), (18, 9)))
    return {
        "LANE_W": r.choice((4, 8, 12)),
        "IN_LANES": lanes,
        "OUT_LANES": lanes,
        "IN_ROW": rows[0],
        "OUT_ROW": rows[1],
    }


def _concat(r: random.Random) -> Point:
    return {
        "LANE_W": r.choice((4, 8)),
        "A_LANES": r.choice((2, 4)),
        "B_LANES": r.choice((2, 4)),
        "OUT_LANES": r.choice((2, 4, 8)),
        "A_ROW": r.choice((8, 16, 18)),
        "B_ROW": r.choice((8, 12, 20)),
    }


def _block_scale(r: random.Random) -> Point:
    lanes, in_w = r.choice((1, 2, 4, 8)), r.choice((12, 20, 28, 36))
    code_w = r.choice((4, 4, 8))
    most = (1 << code_w) - 2
    high = min(most, r.choice((6, 10, 14)))
    return {
        "LANES": lanes,
        "IN_W": in_w,
        "BLOCK_BEATS": r.choice((1, 2, 4, 8, 16, 32)),
        "ROW_BEATS": r.choice((4, 16, 32)),
        "LAST_LANES": r.randint(1, lanes),
        "CODE_W": code_w,
        "CODE_PLUS": r.choice((0, 3)),
        "CODE_MINUS": 0,
        "CODE_MAX": most,
        "CODE_HIGH": high,
        "OUT_W": in_w + high + 1,
    }


def _cast(**more: tuple[int, ...]) -> Callable[[random.Random], Point]:
    """A cast of integers; `more`: the parameters of the format, each with its values."""

    def draw(r: random.Random) -> Point:
        in_w = r.choice((12, 16, 20, 24, 32, 40, 48))
        shape = {name: r.choice(values) for name, values in more.items()}
        return {
            "LANES": r.choice((1, 2)),
            "IN_W": in_w,
            "DROP": r.randint(2, in_w // 2),
            **shape,
        }

    return draw


def _minifloat_cast(r: random.Random) -> Point:
    e, m = r.choice(((2, 1), (3, 2), (2, 3), (4, 3), (5, 2), (5, 10)))
    return {**_cast()(r), "E": e, "M": m}


def _decoder(r: random.Random) -> Point:
    e, m = r.choice(((2, 1), (3, 2), (2, 3), (4, 3), (5, 2), (5, 10)))
    return {"LANES": _lanes(r), "E": e, "M": m}


def _table_cast(r: random.Random) -> Point:
    bits, in_w = r.choice((2, 3, 4, 5, 6, 8)), r.choice((12, 16, 24, 32))
    step = r.randrange(2 ** (in_w - bits - 2), 2 ** (in_w - bits - 1))  # those of a real scale
    thresholds = [(2 * i + 1) * step // 2 for i in range(2**bits - 1)]
    return {
        "LANES": r.choice((1, 2, 4)),
        "IN_W": in_w,
        "BITS": bits,
        "THRESHOLDS": _packed(thresholds, in_w),
    }


def _table_decoder(r: random.Random) -> Point:
    bits, width = r.choice((2, 3, 4, 5, 6)), r.choice((4, 8, 12))
    values = [r.getrandbits(width) for _ in range(2**bits)]
    return {"LANES": _lanes(r), "BITS": bits, "SIG_W": width, "VALUES": _packed(values, width)}


def _packed(integers: list[int], bits: int) -> str:
    """Integers as one constant, the first in the low bits."""
    total = sum(value << (i * bits) for i, value in enumerate(integers))
    return f"{bits * len(integers)}'h{total:x}"


def _align(r: random.Random) -> Point:
    sig, shift = r.choice((4, 6, 8)), r.choice((1, 2, 3, 4))
    scale = r.choice((1, 4))
    reach = (2**shift - 1 if shift > 1 else 0) + (2**scale - 1 if scale > 1 else 0)
    return {
        "LANES": r.choice((1, 2, 4, 8)),
        "SIG_W": sig,
        "SHIFT_W": shift,
        "SCALE_W": scale,
        "OUT_W": sig + reach,
    }


def _two(r: random.Random) -> Point:
    a, b = r.choice((4, 8, 12, 20)), r.choice((4, 8, 12, 20))
    return {"LANES": r.choice((1, 2, 4)), "A_W": a, "B_W": b}


def _add(r: random.Random) -> Point:
    two, shift = _two(r), r.choice((0, 0, 3))
    return {
        **two,
        "A_SHIFT": shift,
        "B_SHIFT": 0,
        "OUT_W": max(int(two["A_W"]), int(two["B_W"])) + 4,
    }


def _mul(r: random.Random) -> Point:
    two = _two(r)
    return {**two, "A_SHIFT": 0, "B_SHIFT": 0, "OUT_W": int(two["A_W"]) + int(two["B_W"])}


def _rom(r: random.Random, block: int) -> Point:
    width = r.choice((8, 16, 40, 72, 144) if block else (1, 3, 8, 16, 32))
    depth = r.choice((40, 256, 600, 1024, 3000) if block else (4, 8, 16, 30, 64))
    return {"WIDTH": width, "DEPTH": depth, "BLOCK": block, "FILE": f"random {width}x{depth}"}


def _lookup(r: random.Random) -> Point:
    in_bits, out_bits = r.choice((4, 6, 8, 10)), r.choice((4, 8, 10))
    block = int(out_bits << in_bits >= 1024)
    return {
        "LANES": r.choice((1, 2, 3, 4)),
        "IN_BITS": in_bits,
        "OUT_BITS": out_bits,
        "BLOCK": block,
        "FILE": f"random {out_bits}x{2**in_bits}",
    }


def _fifo(r: random.Random) -> Point:
    return {"WIDTH": r.choice((8, 24, 64, 130)), "DEPTH": r.choice((2, 3, 8, 16, 33, 64, 100, 300))}


def _axis(r: random.Random) -> Point:
    width = r.choice((5, 8, 24, 50, 128))
    return {"TDATA_W": -(-width // 8) * 8, "WIDTH": width, "BEATS": r.choice((1, 4, 10, 64))}


SWEEPS: Mapping[str, Callable[[], list[Point]]] = {
    "quire_add": _drawn(10, _add),
    "quire_align": _drawn(16, _align),
    "quire_axis_in": _drawn(8, _axis),
    "quire_axis_out": _drawn(8, _axis),
    "quire_block_scale": _drawn(12, _block_scale),
    "quire_cast_binary": lambda: [{"LANES": n, "IN_W": w} for n, w in ((1, 12), (4, 24), (8, 20))],
    "quire_cast_dmf": _drawn(12, _minifloat_cast),
    "quire_cast_fixed": _drawn(10, _cast(BITS=(2, 4, 6, 8, 10), SYMMETRIC=(0, 1))),
    "quire_cast_log": _drawn(7, _cast(BITS=(4, 6, 8))),
    "quire_cast_minifloat": _drawn(12, _minifloat_cast),
    "quire_cast_table": _drawn(14, _table_cast),
    "quire_cast_ternary": _drawn(4, _cast()),
    "quire_cast_ufixed": _drawn(6, _cast(BITS=(2, 4, 6, 8, 10))),
    "quire_concat": _drawn(6, _concat),
    "quire_convert": _drawn(14, _convert),
    "quire_decode_dmf": _drawn(7, _decoder),
    "quire_decode_log": lambda: [{"LANES": n, "BITS": b} for n, b in ((1, 4), (4, 8), (8, 6))],
    "quire_decode_minifloat": _drawn(7, _decoder),
    "quire_decode_table": _drawn(8, _table_decoder),
    "quire_decode_ternary": lambda: [{"LANES": n} for n in (1, 4, 16)],
    "quire_fifo": _drawn(12, _fifo),
    "quire_fork": lambda: [{"N": n, "WIDTH": w} for n, w in ((2, 8), (3, 40), (2, 100), (5, 8))],
    "quire_join": lambda: [{"N": n, "WIDTH": w} for n, w in ((2, 16), (3, 40), (5, 100))],
    "quire_linear": lambda: (
        _drawn(26, _linear)() + _drawn(14, _linear_alike)() + _drawn(24, _linear_wide)()
    ),
    "quire_lookup": _drawn(8, _lookup),
    "quire_mul": _drawn(8, _mul),
    "quire_register": lambda: [{"WIDTH": w} for w in (1, 8, 20, 64, 200)],
    "quire_relu": lambda: [{"LANES": n, "WIDTH": w} for n, w in ((1, 8), (4, 20), (8, 28))],
    "quire_repack": _drawn(6, _repack),
    "quire_rom": lambda: [_rom(random.Random(s), s % 2) for s in range(18)],
    "quire_slice": lambda: [{"WIDTH": w} for w in (1, 8, 20, 64, 200)],
    "quire_widen": _drawn(10, _widen),
}
"""The points of each cell. Cells without one (`quire_decode_fixed`, for one) are wires."""
