"""The named formats: one literal each."""

from __future__ import annotations

from functools import cache

from quire.formats.base import Format
from quire.formats.binary import Binary, Ternary
from quire.formats.block import Block
from quire.formats.fixed import Fixed, UFixed
from quire.formats.layout import WHOLE_AXIS
from quire.formats.minifloat import Minifloat
from quire.formats.pow2 import Pow2
from quire.formats.table import Table

_FP32 = Minifloat(8, 23, special="ieee")
_BF16 = Minifloat(8, 7, special="ieee")
_E4M3 = Minifloat(4, 3, special="nan")
_E5M2 = Minifloat(5, 2, special="ieee")
_E3M2 = Minifloat(3, 2)
_E2M3 = Minifloat(2, 3)
_E2M1 = Minifloat(2, 1)
_E8M0 = Pow2(8)

PRESETS: dict[str, Format] = {
    # IEEE 754-2019 and bfloat16
    "fp32": _FP32,
    "fp16": Minifloat(5, 10, special="ieee"),
    "bf16": _BF16,
    # OCP 8-bit floating point 1.0; the elements of OCP Microscaling 1.0
    "fp8_e4m3": _E4M3,
    "fp8_e5m2": _E5M2,
    "fp6_e2m3": _E2M3,
    "fp6_e3m2": _E3M2,
    "fp4_e2m1": _E2M1,
    "binary": Binary(),
    "ternary": Ternary(),
    # OCP Microscaling 1.0, table 1 (mxint8 there; the other widths follow it)
    **{f"mxint{w}": Block(Fixed(w, w - 2), 32, _E8M0) for w in range(2, 17)},
    "mxfp8_e4m3": Block(_E4M3, 32, _E8M0),
    "mxfp8_e5m2": Block(_E5M2, 32, _E8M0),
    "mxfp6_e2m3": Block(_E2M3, 32, _E8M0),
    "mxfp6_e3m2": Block(_E3M2, 32, _E8M0),
    "mxfp4": Block(_E2M1, 32, _E8M0),
    "nvfp4": Block(_E2M1, 16, _E4M3, tensor_scale=_FP32),
    "int8": Block(Fixed(8, 0), WHOLE_AXIS, _FP32),
    "int4": Block(Fixed(4, 0), WHOLE_AXIS, _FP32),
    "int4_g128": Block(Fixed(4, 0), 128, _BF16),
    "uint8": Block(UFixed(8, 0), WHOLE_AXIS, _FP32, zero_point=True),
    "uint4_g128": Block(UFixed(4, 0), 128, _BF16, zero_point=True),
    "nf4": Block(Table("nf4"), 64, _FP32),
}


@cache
def _names() -> dict[Format, str]:
    return {fmt: name for name, fmt in PRESETS.items()}


def preset_name(fmt: Format) -> str | None:
    """The name of a preset, or None for a format without one."""
    return _names().get(fmt)
