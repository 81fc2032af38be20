"""Rounding, encoding and decoding in Triton, on the bits of float32.

One arithmetic serves fixed point and one every minifloat; which formats there are is data, the
records of `quire.software.kernels.elements`. Numbers in hexadecimal are fields of IEEE binary32.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Triton's functions have types of their own, which Python's cannot say.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def as_float(bits):
    """The float32 with these bits (int32)."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def as_bits(x):
    """The bits (int32) of a float32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def magnitude_bits(x):
    """The bits of |x|, which are ordered as the magnitudes are; NaN and Inf above the finite."""
    return as_bits(x) & 0x7FFFFFFF


@triton.jit
def scale_field(largest, ROUNDING: tl.constexpr):
    """The exponent field of a block's scale, in place, from the bits of its largest magnitude."""
    field = largest & 0x7F800000
    return tl.minimum(tl.maximum(field, ROUNDING.low), ROUNDING.high) - ROUNDING.offset


@triton.jit
def is_bad(largest):
    """Whether a block with this largest magnitude (its bits) holds NaN or Inf."""
    return largest >= 0x7F800000


@triton.jit
def scale_code(largest, ROUNDING: tl.constexpr):
    """The E8M0 code of a block: 255, NaN, where it holds NaN or Inf."""
    return tl.where(is_bad(largest), 255, scale_field(largest, ROUNDING) >> 23)


@triton.jit
def power_of_two(field):
    """2^X from its exponent field in place; a field of 0 means 2^-127, a subnormal number."""
    return as_float(tl.maximum(field, 0x00400000))


@triton.jit
def reciprocal(field):
    """2^-X from the exponent field of 2^X in place."""
    return power_of_two(0x7F000000 - field)


@triton.jit
def _shifted(y, ELEMENT: tl.constexpr):
    """A rounded and saturated y plus a power of two, and that power: their difference is exact.

    The power pushes the bits below the element's last one out of the sum, which is rounded to
    nearest, ties to even.
    """
    if ELEMENT.is_fixed:
        a = tl.minimum(tl.maximum(y, ELEMENT.lowest), ELEMENT.highest)
        magic = 1.5 * 2.0 ** (23 - ELEMENT.fraction)
    else:
        a = tl.minimum(tl.abs(y), ELEMENT.highest)
        field = tl.maximum(as_bits(a) & 0x7F800000, (ELEMENT.emin + 127) << 23)
        magic = as_float(field + ((23 - ELEMENT.fraction) << 23))
    return a + magic, magic


@triton.jit
def round_element(y, ELEMENT: tl.constexpr):
    """Finite y rounded to the element format, saturating, in float32."""
    shifted, magic = _shifted(y, ELEMENT)
    if ELEMENT.is_fixed:
        return shifted - magic
    else:
        return as_float(as_bits(shifted - magic) | (as_bits(y) & -0x80000000))


@triton.jit
def round_tile(x, AXIS: tl.constexpr, ROUNDING: tl.constexpr):
    """The cast of a float32 tile (R, C) along an axis, as `Format.quantize` gives it."""
    ELEMENT: tl.constexpr = ROUNDING.element
    if ROUNDING.size == 0:
        return tl.where(x == x, round_element(x, ELEMENT), x)
    else:  # what follows a return is compiled too
        return _round_blocks(x, AXIS, ROUNDING)


@triton.jit
def _round_blocks(x, AXIS: tl.constexpr, ROUNDING: tl.constexpr):
    ELEMENT: tl.constexpr = ROUNDING.element
    R: tl.constexpr = x.shape[0]
    C: tl.constexpr = x.shape[1]
    SIZE: tl.constexpr = ROUNDING.size
    if AXIS == 1:
        blocks = tl.reshape(x, (R, C // SIZE, SIZE))
        largest = tl.max(magnitude_bits(blocks), axis=2)[:, :, None]
    else:
        blocks = tl.reshape(x, (R // SIZE, SIZE, C))
        largest = tl.max(magnitude_bits(blocks), axis=1)[:, None, :]
    field = scale_field(largest, ROUNDING)
    scale = tl.where(is_bad(largest), float("nan"), power_of_two(field))
    rounded = round_element(blocks * reciprocal(field), ELEMENT) * scale
    return tl.reshape(rounded, (R, C))


@triton.jit
def encode_element(y, ELEMENT: tl.constexpr):
    """The codes (int32) of finite y, rounded to the element format, saturating."""
    shifted, magic = _shifted(y, ELEMENT)
    if ELEMENT.is_fixed:
        # The magic number's own low bits are zero: those of the sum are the integer.
        return as_bits(shifted) & ((1 << ELEMENT.bits) - 1)
    else:
        # With the format's bias for float32's, the code is the head of the float: subnormal
        # elements are subnormal there.
        rebased = (shifted - magic) * 2.0 ** (ELEMENT.bias - 127)
        sign = (as_bits(y) >> (32 - ELEMENT.bits)) & (1 << (ELEMENT.bits - 1))
        return (as_bits(rebased) >> (23 - ELEMENT.fraction)) | sign


@triton.jit
def decode_element(code, ELEMENT: tl.constexpr):
    """Codes (int32, no bits above the code's) to float32 values for `decode_scale`."""
    if ELEMENT.is_fixed:
        # Offset binary as the low bits of 2^23: full rate, where an integer's conversion is not.
        half: tl.constexpr = 1 << (ELEMENT.bits - 1)
        return as_float((code ^ half) | 0x4B000000) - (2.0**23 + half)
    else:
        magnitude = code & ((1 << (ELEMENT.bits - 1)) - 1)
        a = as_float(magnitude << (23 - ELEMENT.fraction)) * 2.0 ** (127 - ELEMENT.bias)
        if ELEMENT.has_infinity:
            a = tl.where(magnitude == ELEMENT.last + 1, float("inf"), a)
            a = tl.where(magnitude > ELEMENT.last + 1, float("nan"), a)
        elif ELEMENT.last + 1 < (1 << (ELEMENT.bits - 1)):
            a = tl.where(magnitude > ELEMENT.last, float("nan"), a)
        return as_float(as_bits(a) | ((code >> (ELEMENT.bits - 1)) << 31))


@triton.jit
def decode_scale(code, ELEMENT: tl.constexpr):
    """E8M0 codes (int32) to what decoded elements are multiplied by, in float32; NaN for 255."""
    field = tl.maximum(code << 23, 0x00400000)
    scale = as_float(tl.where(code == 255, 0x7FC00000, field))
    if ELEMENT.is_fixed:
        scale *= 2.0**-ELEMENT.fraction
    return scale


@triton.jit
def decode_blocks(codes, scales, ELEMENT: tl.constexpr):
    """The float32 values (R, C) of codes (R, C) and E8M0 codes (R, blocks), all int32."""
    R: tl.constexpr = codes.shape[0]
    C: tl.constexpr = codes.shape[1]
    BLOCKS: tl.constexpr = scales.shape[1]
    elements = tl.reshape(decode_element(codes, ELEMENT), (R, BLOCKS, C // BLOCKS))
    return tl.reshape(elements * decode_scale(scales, ELEMENT)[:, :, None], (R, C))


@triton.jit
def saturate(x, ELEMENT: tl.constexpr, HIGHEST: tl.constexpr):
    """Decoded values within -HIGHEST..HIGHEST of a dtype, Inf too; NaN stays NaN."""
    x = tl.maximum(x, -HIGHEST, propagate_nan=tl.PropagateNan.ALL)
    # In a dtype with the range of float32 the one value beyond it of fixed point is -2^128.
    if HIGHEST < 2.0**127 or not ELEMENT.is_fixed:
        x = tl.minimum(x, HIGHEST, propagate_nan=tl.PropagateNan.ALL)
    return x


@triton.jit
def bfloat16_bits(x):
    """The bits (int16) of a float32 rounded to bfloat16.

    Triton's interpreter converts subnormal numbers wrongly, hence by integers.
    """
    bits = as_bits(x)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x == x, rounded, 0x7FC0).to(tl.int16)
