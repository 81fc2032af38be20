"""Answers that the standards fix and that other tools get wrong."""

import math

import pytest
import torch

from quire.formats import Encoded, parse, presets


def quantized(name: str, values, axis: int = -1) -> list:
    return parse(name).quantize(torch.tensor(values), axis).tolist()


def sqnr(name: str) -> float:
    """Signal to quantization noise, dB, of N(0, 0.02) in rows of 4096."""
    x = torch.randn(256, 4096, generator=torch.Generator().manual_seed(0)) * 0.02
    error = parse(name).quantize(x) - x
    return 10 * math.log10((x.double().square().sum() / error.double().square().sum()).item())


def test_e4m3_rounds_up_into_the_next_binade():
    assert quantized("fp8_e4m3", [1.99]) == [2.0]  # others: 1.875


def test_a_rounding_carry_is_kept_inside_a_block():
    assert quantized("mxfp8_e4m3", [4.0, 1.96]) == [4.0, 2.0]  # others: 1.0


def test_the_floor_rule_saturates_the_maximum_itself():
    # OCP Microscaling 1.0, section 6.3: 1.96 / 2^-8 = 501.76 is beyond e4m3's 448.
    assert quantized("mxfp8_e4m3", [1.96, 0.0]) == [1.75, 0.0]


@pytest.mark.parametrize("exponent", [-126, -3, 0, 9, 127])
@pytest.mark.parametrize("name", ["mxint8", "mxint4", "mxfp4", "mxfp8_e5m2", "bfp(4)", "bl(4)"])
def test_a_maximum_that_is_a_power_of_two_is_kept(name, exponent):
    value = 2.0**exponent  # others: 0.992 for 1.0
    assert quantized(name, [value, -value, 0.0]) == [value, -value, 0.0]


@pytest.mark.parametrize("name", ["dmf(e=4,m=3)", "dmf(e=2,m=1)", "dmf(e=3,m=6)"])
def test_denormed_minifloats_represent_one(name):
    assert quantized(name, [1.0, -1.0]) == [1.0, -1.0]


@pytest.mark.parametrize("name", ["log(4)", "log(8)", "bl(4)"])
def test_the_logarithm_format_has_a_zero(name):
    assert quantized(name, [0.0, 0.0]) == [0.0, 0.0]
    assert quantized(name, [0.0, 1.0]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("bm(e=2,m=3,scale_bits=8,size=16)", 30.5, 31.6),  # others: 0 dB
        ("mxint8", 42.0, 42.8),
        ("mxint6", 30.0, 30.8),
        ("mxint4", 18.0, 18.7),
        ("bm(e=2,m=1,scale_bits=8,size=16)", 18.4, 19.2),
        ("bfp(4,scale_bits=8,size=16)", 18.6, 19.4),
        ("bl(4,scale_bits=8,size=16)", 12.0, 12.7),
        ("nvfp4", 20.0, 20.8),
    ],
)
def test_signal_to_noise_on_normal_numbers(name, low, high):
    assert low < sqnr(name) < high


def test_mxint8_reads_the_most_negative_code():
    scale = torch.tensor([127], dtype=torch.uint8)
    codes = torch.tensor([0x80, 0x81, 0x7F, 0x40], dtype=torch.uint8)
    encoded = Encoded(codes, scale, None, None, 0, torch.float32)
    assert parse("mxint8").decode(encoded).tolist() == [-2.0, -127 / 64, 127 / 64, 1.0]


@pytest.mark.parametrize("name", ["mxint8", "mxfp8_e4m3", "mxfp4", "nvfp4", "int4_g128", "nf4"])
def test_a_nan_harms_its_own_block_only(name):
    fmt = presets[name]
    x = torch.linspace(-3, 3, 512)
    clean = fmt.quantize(x)
    x[5] = math.nan
    y = fmt.quantize(x)
    assert y[: fmt.size].isnan().all()
    assert torch.equal(y[fmt.size :], clean[fmt.size :])


def test_the_nvfp4_scales_of_its_definition():
    # max 2688 = 6 * 448 gives t = 1; a block with maximum 3 has s = e4m3(3 / 6) = 0.5.
    x = torch.zeros(2, 16)
    x[0, 0], x[1, :3] = 2688.0, torch.tensor([3.0, 0.3, -0.9])
    encoded = presets["nvfp4"].encode(x)
    assert encoded.tensor_scale.item() == 1.0
    assert presets["fp8_e4m3"].values_of(encoded.scales.long()).tolist() == [[448.0], [0.5]]
    assert presets["nvfp4"].decode(encoded)[1, :3].tolist() == [3.0, 0.25, -1.0]


@pytest.mark.parametrize(
    ("name", "highest", "smallest", "count"),
    [
        # OCP 8-bit floating point 1.0, tables 1 and 2; OCP Microscaling 1.0, tables 2 to 6.
        ("fp8_e4m3", 448.0, 2.0**-9, 253),
        ("fp8_e5m2", 57344.0, 2.0**-16, 247),
        ("fp6_e3m2", 28.0, 0.0625, 63),
        ("fp6_e2m3", 7.5, 0.125, 63),
        ("fp4_e2m1", 6.0, 0.5, 15),
        ("fixed(8,6)", 127 / 64, 1 / 64, 256),
        ("pow2(8)", 2.0**127, 2.0**-127, 255),
        ("fp16", 65504.0, 2.0**-24, 63487),
    ],
)
def test_the_standards_tables(name, highest, smallest, count):
    values = parse(name).values()
    assert values[-1] == highest
    assert values[values > 0].min() == smallest
    assert len(values) == count


@pytest.mark.parametrize(
    ("name", "bits"),
    [("mxint8", 8.25), ("mxint4", 4.25), ("mxfp4", 4.25), ("nf4", 4.5), ("int4_g128", 4.125)],
)
def test_bits_a_value_count_the_scales(name, bits):
    assert presets[name].bits_per_value(128) == bits


def test_nvfp4_counts_its_tensor_scale():
    assert presets["nvfp4"].bits_per_value(4096) == 4.5 + 32 / 4096
