"""The plain layout: which formats have it, and its bytes against `quire.formats.packing`."""

import pytest
import torch

from quire.errors import FormatError
from quire.formats import parse
from quire.formats.packing import pack_bits, unpack_bits
from quire.software.mx.layout import format_of, pack, row_blocks, row_bytes, supports, unpack


@pytest.mark.parametrize(
    "text",
    [
        *("mxint4", "mxint6", "mxint8", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2"),
        *("mxfp4", "bfp(4,scale_bits=8,size=16)", "bfp(8,scale_bits=8,size=64)"),
        *("bfp(6,scale_bits=8,size=128)", "block(fp8_e4m3,size=64,scale=pow2(8))"),
    ],
)
def test_formats_with_the_layout(text):
    assert supports(parse(text))
    assert format_of(text) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("fixed(8,4)", "mxint5", "int8", "nvfp4", "bfp(8,scale_bits=4,size=32)", "bf16"),
        *("bfp(8,scale_bits=8,size=8)", "block(fixed(8,4),size=32,scale=pow2(8))"),
        *("block(fixed(8,6),size=32,scale=pow2(8,bias=100))", "block(int8,size=32,scale=bf16)"),
    ],
)
def test_formats_without_it(text):
    if "int8," in text:
        text = "block(fixed(8,0),size=32,scale=bf16)"
    assert not supports(parse(text))
    with pytest.raises(FormatError, match="the mx ops take a block of 16, 32, 64, 128 elements"):
        format_of(text)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 32, 77])
def test_bytes_are_those_of_the_checkpoints(bits, k):
    generator = torch.Generator().manual_seed(k)
    codes = torch.randint(2**bits, (3, 2, k), dtype=torch.uint8, generator=generator)
    packed = pack(codes, bits)
    assert torch.equal(packed, pack_bits(codes, bits))
    assert torch.equal(unpack(packed, bits, k), codes)
    assert torch.equal(unpack(packed, bits, k), unpack_bits(packed, bits, k))


def test_sizes_of_a_row():
    assert (row_bytes(format_of("mxint4"), 33), row_blocks(format_of("mxint4"), 33)) == (17, 2)
    assert (row_bytes(format_of("mxint6"), 33), row_blocks(format_of("mxint6"), 32)) == (25, 1)
    assert (row_bytes(format_of("mxint8"), 33), row_blocks(format_of("mxint8"), 0)) == (33, 0)
