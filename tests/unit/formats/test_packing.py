"""Bit packing against plain Python integers."""

import pytest
import torch

from quire.errors import FormatError
from quire.formats import parse
from quire.formats.packing import pack_bits, unpack_bits


def packed_by_hand(codes: list[int], bits: int) -> list[int]:
    """The stream as one big integer, lowest bit first."""
    number = sum(code << (bits * i) for i, code in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * bits // 8), "little"))


@pytest.mark.parametrize("bits", range(1, 33))
def test_codes_of_any_width_pack_as_one_integer(bits):
    generator = torch.Generator().manual_seed(bits)
    for n in (0, 1, 2, 7, 8, 9, 31, 64):
        codes = torch.randint(0, 2**bits, (3, n), generator=generator)
        data = pack_bits(codes, bits)
        assert data.tolist() == [packed_by_hand(row, bits) for row in codes.tolist()]
        assert torch.equal(unpack_bits(data, bits, n).long(), codes)


def test_fields_follow_each_other_without_padding():
    # nine 4-bit elements, the scales of three blocks, the zero points: 36 + 3 * 8 + 3 * 4 bits
    fmt = parse("block(ufixed(4,0),size=4,scale=fp8_e4m3,zero_point=True)")
    encoded = fmt.encode(torch.linspace(-1, 2, 9))
    fields = [(encoded.codes, 4), (encoded.scales, 8), (encoded.zero_points, 4)]
    number, shift = 0, 0
    for codes, bits in fields:
        for code in codes.tolist():
            number, shift = number | code << shift, shift + bits
    assert shift == fmt.storage_bits((9,)) == 72
    assert fmt.pack(encoded).tolist() == list(number.to_bytes(9, "little"))


def test_the_tensor_scale_comes_last_as_float32():
    fmt = parse("nvfp4")
    encoded = fmt.encode(torch.linspace(-1, 2, 16))
    data = fmt.pack(encoded)
    assert len(data) == 8 + 1 + 4
    assert data[9:].clone().view(torch.float32).item() == encoded.tensor_scale.item()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_an_error(change):
    fmt = parse("mxint8")
    data = torch.zeros(33 + change, dtype=torch.uint8)
    with pytest.raises(FormatError) as error:
        fmt.unpack(data, (32,))
    assert str(error.value) == (
        "mxint8: a tensor of shape (32,) packs to 33 bytes (uint8), not"
        f" ({33 + change},) of torch.uint8"
    )
    with pytest.raises(FormatError, match=r"of torch\.int8"):
        fmt.unpack(torch.zeros(33, dtype=torch.int8), (32,))
