"""How the elements of each scalar family are decoded and cast in hardware: which cell, which
parameters. A new family is one function in each of the two tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch

import torch

from quire.errors import HardwareError
from quire.formats import Format, Scalar
from quire.formats.binary import Binary, Ternary
from quire.formats.denormed import DenormedMinifloat
from quire.formats.fixed import Fixed, UFixed
from quire.formats.log import Log
from quire.formats.minifloat import Minifloat
from quire.formats.table import Table

Parameters = Mapping[str, int | str]


@dataclass(frozen=True)
class Decoder:
    """A cell that turns a code into (sig, shift): its value is sig * 2^(shift + quantum exponent).

    sig_bits: of the two's complement `sig`. shift_bits: of the unsigned `shift`; 0 where there is
    none (the port still has one bit).
    """

    cell: str
    parameters: Parameters
    sig_bits: int
    shift_bits: int = 0


@dataclass(frozen=True)
class Caster:
    """A cell that rounds an integer on a grid to the code of a format."""

    cell: str
    parameters: Parameters


SIGN_FIRST = (Fixed, Minifloat, DenormedMinifloat, Log)
"""Families whose codes have the sign in the first bit, and all zeros for zero."""


@singledispatch
def decoder(element: Format) -> Decoder:
    """The decoder of a scalar format; HardwareError where there is none."""
    raise HardwareError(f"{element} has no decoder in hardware: {_families(decoder.registry)} have")


@decoder.register
def _(element: Fixed) -> Decoder:
    return Decoder("quire_decode_fixed", {"BITS": element.w}, element.w)


@decoder.register
def _(element: UFixed) -> Decoder:
    return Decoder("quire_decode_ufixed", {"BITS": element.w}, element.w + 1)


@decoder.register
def _(element: Minifloat) -> Decoder:
    shape = {"E": element.e, "M": element.m}
    return Decoder("quire_decode_minifloat", shape, element.m + 2, element.e)


@decoder.register
def _(element: DenormedMinifloat) -> Decoder:
    shape = {"E": element.e, "M": element.m}
    return Decoder("quire_decode_dmf", shape, max(2, element.m + 1), element.e)


@decoder.register
def _(element: Log) -> Decoder:
    return Decoder("quire_decode_log", {"BITS": element.w}, 2, element.w - 1)


@decoder.register
def _(element: Binary) -> Decoder:
    return Decoder("quire_decode_binary", {}, 2)


@decoder.register
def _(element: Ternary) -> Decoder:
    return Decoder("quire_decode_ternary", {}, 2)


@decoder.register
def _(element: Table) -> Decoder:
    integers = [
        int(v / Fraction(2) ** element.quantum_exponent) for v in map(Fraction, element.entries)
    ]
    bits = 1 + max(abs(v).bit_length() for v in integers)
    shape = {"BITS": element.bits, "SIG_W": bits, "VALUES": packed(integers, bits)}
    return Decoder("quire_decode_table", shape, bits)


def signed(code: int, bits: int) -> int:
    """The two's complement number of a code."""
    return code - (1 << bits if code >> (bits - 1) else 0)


def _minifloat_operands(p: Parameters, code: int) -> tuple[int, int]:
    e, m = int(p["E"]), int(p["M"])
    field = code >> m & ((1 << e) - 1)
    magnitude = (field != 0) << m | (code & ((1 << m) - 1))
    return -magnitude if code >> (e + m) else magnitude, max(field - 1, 0)


def _dmf_operands(p: Parameters, code: int) -> tuple[int, int]:
    e, m = int(p["E"]), int(p["M"])
    magnitude = code & ((1 << m) - 1)
    return -magnitude if code >> (e + m) else magnitude, code >> m & ((1 << e) - 1)


def _log_operands(p: Parameters, code: int) -> tuple[int, int]:
    sign, field = divmod(code, 1 << (int(p["BITS"]) - 1))
    return (1 - 2 * sign) * (field != 0), max(field - 1, 0)


def _table_operands(p: Parameters, code: int) -> tuple[int, int]:
    bits, values = int(p["SIG_W"]), int(str(p["VALUES"]).partition("'h")[2], 16)
    return signed(values >> (code * bits) & ((1 << bits) - 1), bits), 0


SHIFTLESS: Mapping[str, Callable[[Parameters, int], tuple[int, int]]] = {
    "quire_decode_binary": lambda p, code: (1 - 2 * code, 0),
    "quire_decode_fixed": lambda p, code: (signed(code, int(p["BITS"])), 0),
    "quire_decode_table": _table_operands,
    "quire_decode_ternary": lambda p, code: (signed(code, 2), 0),
    "quire_decode_ufixed": lambda p, code: (code, 0),
}
"""(sig, shift) that a decoder makes of a code, by its cell: those whose shift is always 0."""

OPERANDS: Mapping[str, Callable[[Parameters, int], tuple[int, int]]] = {
    **SHIFTLESS,
    "quire_decode_dmf": _dmf_operands,
    "quire_decode_log": _log_operands,
    "quire_decode_minifloat": _minifloat_operands,
}
"""The same of every decoder."""


@singledispatch
def caster(element: Format, in_bits: int, drop: int, symmetric: bool) -> Caster:
    """The cast cell of a scalar format for two's complement integers of `in_bits` bits.

    drop: bits below the format's smallest step. symmetric: the most negative code of fixed point
    is never emitted (elements of a block). HardwareError where there is no cell.
    """
    raise HardwareError(f"{element} has no cast in hardware: {_families(caster.registry)} have")


@caster.register
def _(element: Fixed, in_bits: int, drop: int, symmetric: bool) -> Caster:
    shape = {"IN_W": in_bits, "DROP": drop, "BITS": element.w, "SYMMETRIC": int(symmetric)}
    return Caster("quire_cast_fixed", shape)


@caster.register
def _(element: UFixed, in_bits: int, drop: int, symmetric: bool) -> Caster:
    return Caster("quire_cast_ufixed", {"IN_W": in_bits, "DROP": drop, "BITS": element.w})


@caster.register
def _(element: Minifloat, in_bits: int, drop: int, symmetric: bool) -> Caster:
    largest = int(element.codes_of(torch.tensor([element.highest], dtype=torch.float64)))
    shape = {"IN_W": in_bits, "DROP": drop, "E": element.e, "M": element.m, "MAX_CODE": largest}
    return Caster("quire_cast_minifloat", shape)


@caster.register
def _(element: DenormedMinifloat, in_bits: int, drop: int, symmetric: bool) -> Caster:
    shape = {"IN_W": in_bits, "DROP": drop, "E": element.e, "M": element.m}
    return Caster("quire_cast_dmf", shape)


@caster.register
def _(element: Log, in_bits: int, drop: int, symmetric: bool) -> Caster:
    return Caster("quire_cast_log", {"IN_W": in_bits, "DROP": drop, "BITS": element.w})


@caster.register
def _(element: Binary, in_bits: int, drop: int, symmetric: bool) -> Caster:
    return Caster("quire_cast_binary", {"IN_W": in_bits})


@caster.register
def _(element: Ternary, in_bits: int, drop: int, symmetric: bool) -> Caster:
    return Caster("quire_cast_ternary", {"IN_W": in_bits, "DROP": drop})


def packed(integers: list[int], bits: int) -> str:
    """Integers as one SystemVerilog constant, the first in the low bits."""
    total = sum((v & ((1 << bits) - 1)) << (i * bits) for i, v in enumerate(integers))
    return f"{bits * len(integers)}'h{total:x}"


def interval(element: Scalar) -> tuple[int, int]:
    """The smallest and the largest value of a scalar format, in units of its smallest step."""
    step = Fraction(2) ** element.quantum_exponent
    return int(Fraction(element.lowest) / step), int(Fraction(element.highest) / step)


def _families(registry: Mapping[type, object]) -> str:
    return ", ".join(t.__name__.lower() for t in registry if t not in (object, Format))
