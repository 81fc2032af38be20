"""`ml_dtypes` and `gfloat` as oracles, inside the range; beyond it docs/numerics.md decides.

Both round to nearest even. They differ in what becomes of large values, so those are compared with
saturation, our rule, here.
"""

import math

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch

from quire.formats import Block, Scalar, parse, presets

FAST, MANY = 200_000, 10_000_000
CHUNK = 1_000_000
sizes = pytest.mark.parametrize("count", [FAST, pytest.param(MANY, marks=pytest.mark.nightly)])

ML_DTYPES = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "minifloat(e=3,m=4,special=ieee)": ml_dtypes.float8_e3m4,
    "minifloat(e=4,m=3,special=ieee)": ml_dtypes.float8_e4m3,
}
INTEGERS = {
    "fixed(2,0)": ml_dtypes.int2,
    "fixed(4,0)": ml_dtypes.int4,
    "ufixed(2,0)": ml_dtypes.uint2,
    "ufixed(4,0)": ml_dtypes.uint4,
    "fixed(8,0)": np.int8,
    "ufixed(8,0)": np.uint8,
}


def ieee_info(name: str, k: int, precision: int) -> gfloat.FormatInfo:
    """An IEEE float that gfloat does not list."""
    exponent_bits = k - precision
    return gfloat.FormatInfo(
        name,
        k,
        precision,
        bias=2 ** (exponent_bits - 1) - 1,
        is_signed=True,
        domain=gfloat.Domain.Extended,
        has_nz=True,
        num_high_nans=2 ** (precision - 1) - 1,
        has_subnormals=True,
        is_twos_complement=False,
    )


def finite_info(e: int, m: int, bias: int) -> gfloat.FormatInfo:
    """A minifloat in which every code is finite."""
    return gfloat.FormatInfo(
        f"e{e}m{m}",
        1 + e + m,
        m + 1,
        bias=bias,
        is_signed=True,
        domain=gfloat.Domain.Finite,
        has_nz=True,
        num_high_nans=0,
        has_subnormals=True,
        is_twos_complement=False,
    )


GFLOAT = {
    "fp32": gfloat.formats.format_info_binary32,
    "fp16": gfloat.formats.format_info_binary16,
    "bf16": gfloat.formats.format_info_bfloat16,
    "fp8_e4m3": gfloat.formats.format_info_ocp_e4m3,
    "fp8_e5m2": gfloat.formats.format_info_ocp_e5m2,
    "fp6_e2m3": gfloat.formats.format_info_ocp_e2m3,
    "fp6_e3m2": gfloat.formats.format_info_ocp_e3m2,
    "fp4_e2m1": gfloat.formats.format_info_ocp_e2m1,
    "fixed(8,6)": gfloat.formats.format_info_ocp_int8,
    "minifloat(e=3,m=4,special=ieee)": ieee_info("e3m4", 8, 5),
    "minifloat(e=4,m=3,special=ieee)": ieee_info("e4m3", 8, 4),
    "minifloat(e=6,m=9,special=ieee)": ieee_info("e6m9", 16, 10),
    "minifloat(e=4,m=3)": finite_info(4, 3, 7),
    "minifloat(e=3,m=2,bias=5)": finite_info(3, 2, 5),
    "minifloat(e=5,m=8,bias=11)": finite_info(5, 8, 11),
}
GFLOAT_BLOCKS = {
    "mxfp8_e4m3": gfloat.formats.format_info_mxfp8_e4m3,
    "mxfp8_e5m2": gfloat.formats.format_info_mxfp8_e5m2,
    "mxfp6_e2m3": gfloat.formats.format_info_mxfp6_e2m3,
    "mxfp6_e3m2": gfloat.formats.format_info_mxfp6_e3m2,
    "mxfp4": gfloat.formats.format_info_mxfp4_e2m1,
    "mxint8": gfloat.formats.format_info_mxint8,
}


def inputs(fmt: Scalar, count: int, seed: int) -> np.ndarray:
    """float32: half over all bit patterns, half near the format's range, and its exact ties."""
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 2**32, count // 2, dtype=np.uint32).view(np.float32)
    reach = max(fmt.highest, -fmt.lowest)
    decay = generator.integers(0, 24, count - count // 2)
    near = np.ldexp(generator.uniform(-1.25, 1.25, decay.shape) * reach, -decay)
    # A third of them on few bits, so that many are values and ties of the format.
    short = np.ldexp(np.rint(np.ldexp(near / reach, fmt.precision + 2)), -fmt.precision - 2) * reach
    near = np.where(decay % 3 == 0, short, near)
    specials = np.array([0.0, -0.0, 1.0, 2**-149, 2**-126, 3.4e38], np.float32)
    with np.errstate(over="ignore"):
        every = np.concatenate([patterns, near.astype(np.float32), specials, -specials])
    return every[np.isfinite(every)]


def chunks(count: int):
    return [(seed, min(CHUNK, count)) for seed in range(-(-count // CHUNK))]


def quantized(fmt, x: np.ndarray) -> np.ndarray:
    return fmt.quantize(torch.from_numpy(x)).numpy()


def assert_same_bits(got: np.ndarray, expected: np.ndarray, x: np.ndarray):
    wrong = got.view(np.int32) != expected.view(np.int32)
    assert not wrong.any(), list(zip(x[wrong], got[wrong], expected[wrong], strict=True))[:5]


def beyond(fmt: Scalar, x: np.ndarray) -> np.ndarray:
    return (x > fmt.highest) | (x < fmt.lowest)


def assert_saturates(fmt: Scalar, x: np.ndarray):
    outside = x[beyond(fmt, x)]
    expected = np.where(outside > 0, fmt.highest, fmt.lowest).astype(np.float32)
    assert_same_bits(quantized(fmt, outside), expected, outside)


@pytest.mark.parametrize("name", ML_DTYPES)
@sizes
def test_floats_equal_ml_dtypes(name, count):
    fmt = parse(name)
    for seed, size in chunks(count):
        x = inputs(fmt, size, seed)
        inside = x[~beyond(fmt, x)]
        assert_same_bits(
            quantized(fmt, inside), inside.astype(ML_DTYPES[name]).astype(np.float32), inside
        )
        assert_saturates(fmt, x)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_codes_equal_the_bits_of_ml_dtypes(name):
    fmt, dtype = parse(name), ML_DTYPES[name]
    width = np.uint16 if fmt.bits == 16 else np.uint8
    codes = np.arange(2**fmt.bits).astype(width)
    values = fmt.values_of(torch.from_numpy(codes.astype(np.int64))).float().numpy()
    assert np.array_equal(values, codes.view(dtype).astype(np.float32), equal_nan=True)
    x = inputs(fmt, FAST, 1)
    x = x[~beyond(fmt, x)]
    encoded = fmt.encode(torch.from_numpy(x)).codes.numpy()
    mask = 2**fmt.bits - 1
    assert np.array_equal(encoded, x.astype(dtype).view(width) & mask)


def test_e8m0_codes_equal_ml_dtypes():
    codes = np.arange(256).astype(np.uint8)
    values = parse("pow2(8)").values_of(torch.arange(256)).float().numpy()
    expected = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert np.array_equal(values, expected, equal_nan=True)


@pytest.mark.parametrize("name", INTEGERS)
@sizes
def test_integers_equal_numpy_after_rint(name, count):
    fmt = parse(name)
    for seed, size in chunks(count):
        x = inputs(fmt, size, seed)
        whole = np.clip(np.rint(x), fmt.lowest, fmt.highest)
        expected = whole.astype(INTEGERS[name]).astype(np.float32)
        assert_same_bits(quantized(fmt, x), expected, x)


@pytest.mark.parametrize("name", GFLOAT)
@sizes
def test_scalars_equal_gfloat(name, count):
    fmt = parse(name)
    for seed, size in chunks(count):
        x = inputs(fmt, size, seed)
        expected = gfloat.round_ndarray(GFLOAT[name], x.astype(np.float64), sat=True)
        if not fmt.has_signed_zero:
            expected = np.where(expected == 0, 0.0, expected)
        assert_same_bits(quantized(fmt, x), expected.astype(np.float32), x)
        assert_saturates(fmt, x)


@pytest.mark.parametrize("name", GFLOAT)
def test_float64_inputs_equal_gfloat(name):
    fmt = parse(name)
    generator = np.random.default_rng(5)
    x = inputs(fmt, FAST, 2).astype(np.float64) * generator.uniform(1, 1 + 2**-30, 1)
    x = np.concatenate([x, inputs(fmt, FAST, 3).astype(np.float64)])
    expected = gfloat.round_ndarray(GFLOAT[name], x, sat=True)
    got = fmt.quantize(torch.from_numpy(x)).numpy()
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("name", [n for n, info in GFLOAT.items() if info.k <= 16])
def test_codes_decode_as_in_gfloat(name):
    fmt, info = parse(name), GFLOAT[name]
    codes = np.arange(2**fmt.bits)
    expected = gfloat.decode_ndarray(info, codes)
    values = fmt.values_of(torch.from_numpy(codes)).numpy()
    assert np.array_equal(values, expected, equal_nan=True)


def block_inputs(count: int, seed: int) -> np.ndarray:
    """float32 blocks of 32 whose scales need no clamp, many maxima being powers of two."""
    generator = np.random.default_rng(seed)
    blocks = generator.standard_normal((count // 32, 32))
    blocks *= np.exp2(generator.integers(-6, 4, blocks.shape))
    blocks[::4, 0] = np.exp2(generator.integers(5, 9, blocks[::4, 0].shape))
    blocks[1::4] = np.rint(blocks[1::4] * 64) / 64
    scale = np.exp2(generator.integers(-90, 100, (len(blocks), 1)))
    return (blocks * scale).astype(np.float32)


@pytest.mark.parametrize("name", GFLOAT_BLOCKS)
@sizes
def test_blocks_equal_gfloat_elements_under_its_scale_rule(name, count):
    fmt, info = presets[name], GFLOAT_BLOCKS[name]
    assert isinstance(fmt, Block)
    for seed, size in chunks(count):
        x = block_inputs(size, seed)
        exact = x.astype(np.float64)
        # gfloat.compute_scale_amax, all blocks at once; frexp for its floor(log2).
        exponent = np.frexp(np.abs(exact).max(1, keepdims=True))[1] - 1 - info.etype.emax
        scale = np.exp2(exponent.astype(np.float64))
        scaled = exact / scale
        if name == "mxint8":  # the encoder never emits the most negative code
            scaled = np.clip(scaled, -fmt.element.highest, fmt.element.highest)
        expected = gfloat.round_ndarray(info.etype, scaled, sat=True) * scale
        if not fmt.element.has_signed_zero:
            expected = np.where(expected == 0, 0.0, expected)
        assert_same_bits(quantized(fmt, x), expected.astype(np.float32), x)


@pytest.mark.parametrize("name", GFLOAT_BLOCKS)
def test_blocks_equal_gfloat_as_it_quantizes_them(name):
    fmt, info = presets[name], GFLOAT_BLOCKS[name]
    x = block_inputs(32 * 40, 9).astype(np.float64)
    if name == "mxint8":
        # gfloat emits -2.0, which numerics.md does not.
        x = x[(x / np.exp2(np.floor(np.log2(np.abs(x).max(1, keepdims=True)))) > -1.98).all(1)]
    expected = [gfloat.quantize_block(info, b, gfloat.compute_scale_amax) for b in x]
    assert len(x) > 20
    assert np.array_equal(fmt.quantize(torch.from_numpy(x)).numpy(), np.stack(expected))


def test_the_oracles_differ_from_us_beyond_the_range_as_documented():
    # fp8_e4m3 500: ml_dtypes gives NaN and fp16 70000 gives Inf; every format here saturates.
    with np.errstate(over="ignore"):
        assert math.isnan(np.float32(500).astype(ml_dtypes.float8_e4m3fn))
        assert math.isinf(np.float32(70000).astype(np.float16))
    assert parse("fp8_e4m3").quantize(torch.tensor(500.0)) == 448
    assert parse("fp16").quantize(torch.tensor(70000.0)) == 65504
    infinite = torch.tensor(math.inf)
    assert parse("fp16").quantize(infinite) == infinite
    assert parse("fp8_e4m3").quantize(infinite) == 448
