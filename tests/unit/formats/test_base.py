"""The errors of tensors that do not fit a format, and the text that describes one."""

import pytest
import torch

from quire.errors import FormatError
from quire.formats import parse


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        (
            "fixed(32,8)",
            torch.float32,
            "fixed(32,8) does not fit float32: it needs 31 significant bits and magnitudes from"
            " 2^-8 to 8.38861e+06; convert the tensor to float64",
        ),
        (
            "minifloat(e=8,m=3)",
            torch.float32,
            "minifloat(e=8,m=3) does not fit float32: it needs 4 significant bits and magnitudes"
            " from 2^-129 to 6.38029e+38; convert the tensor to float64",
        ),
        (
            "fixed(16,8)",
            torch.bfloat16,
            "fixed(16,8) does not fit bfloat16: it needs 15 significant bits and magnitudes from"
            " 2^-8 to 128; convert the tensor to float32",
        ),
        (
            "bf16",
            torch.float16,
            "bf16 does not fit float16: it needs 8 significant bits and magnitudes from 2^-133"
            " to 3.38953e+38; convert the tensor to bfloat16",
        ),
        (
            "mxint16",
            torch.bfloat16,
            "mxint16 does not fit bfloat16: its elements have 15 significant bits;"
            " convert the tensor to float32",
        ),
    ],
)
def test_a_dtype_that_does_not_hold_the_values_is_refused(name, dtype, message):
    x = torch.ones(4, dtype=dtype)
    for call in (parse(name).quantize, parse(name).encode):
        with pytest.raises(FormatError) as error:
            call(x)
        assert str(error.value) == message
    wider = x.to(getattr(torch, message.rsplit(" ", 1)[1]))
    assert torch.equal(parse(name).quantize(wider), wider)


def test_a_pow2_block_asks_for_significand_bits_only():
    x = torch.tensor([3e38, 1e-38], dtype=torch.bfloat16)
    y = parse("block(minifloat(e=8,m=7),size=16,scale=pow2(8))").quantize(x)
    assert torch.equal(y, x)


def test_descriptions_are_aligned_text():
    assert parse("fp8_e4m3").describe().splitlines() == [
        "fp8_e4m3",
        "  bits           8",
        "  range          -448 to 448",
        "  smallest step  2^-9 = 0.001953125",
        "  epsilon        2^-3",
        "  codes          256",
        "  written out    minifloat(e=4,m=3,special=nan)",
    ]
    assert parse("mxint8").describe().splitlines() == [
        "mxint8",
        "  element        fixed(8,6) (8 bits)",
        "  block          32 values",
        "  scale          pow2(8) (8 bits)",
        "  bits a value   8.25 on an axis of 4096",
        "  element range  -1.984375 to 1.984375",
        "  epsilon        2^-6",
        "  codes          256",
        "  written out    block(fixed(8,6),size=32,scale=pow2(8))",
    ]


def test_values_of_wide_formats_are_not_listed():
    with pytest.raises(FormatError, match=r"fp32 has 2\^32 codes: values\(\) lists at most 2\^16"):
        parse("fp32").values()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse(["mxint8"]), "a format string is a str, not list: ['mxint8']"),
        (
            lambda: parse("mxint8").quantize([1.0]),
            "cannot quantize a list: give a torch.Tensor",
        ),
        (
            lambda: parse("mxint8").bits_per_value(0),
            "mxint8: an axis of 0 values has no bits a value; n is at least 1",
        ),
    ],
    ids=["parse", "quantize", "bits_per_value"],
)
def test_arguments_of_the_wrong_kind(call, message):
    with pytest.raises(FormatError) as caught:
        call()
    assert str(caught.value) == message
