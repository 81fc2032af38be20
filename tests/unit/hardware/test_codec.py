"""The codec of an emitted folder, which knows no format, against the formats: the same bytes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from quire.formats import Block, Pow2, Scalar, parse
from quire.formats.registry import EXAMPLES
from quire.hardware.axi import decode, encode, from_bytes
from quire.hardware.layout import WIDEST_TABLE, tables
from quire.hardware.manifest import port_json
from quire.hardware.stream import Codes, Integers, Stream
from quire.hardware.tb.codec import Port

SCALARS = sorted(
    name
    for name in {
        *EXAMPLES.values(),
        *(
            "fixed(2,0)",
            "fixed(16,7)",
            "fixed(12,-3)",
            "fixed(8,20)",
            "ufixed(1,0)",
            "ufixed(16,9)",
        ),
        *("fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "fp16", "bf16"),
        *(
            "minifloat(e=1,m=0)",
            "minifloat(e=4,m=0)",
            "minifloat(e=1,m=3)",
            "minifloat(e=7,m=2,bias=3)",
        ),
        *("dmf(e=1,m=1)", "dmf(e=3,m=4,bias=9)", "log(2)", "log(5,bias=-2)", "log(8,bias=120)"),
    }
    if isinstance(parse(name), Scalar) and not isinstance(parse(name), Pow2)
)
BLOCKS = [
    "mxint8",
    "mxint2",
    "mxint16",
    "mxfp4",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "bfp(8,scale_bits=4,size=4,bias=13)",
    "bfp(3,scale_bits=1,size=3,bias=0)",
    "bm(e=3,m=2,scale_bits=5,size=6,bias=11)",
    "bl(4,scale_bits=6,size=16)",
    "block(dmf(e=2,m=3),size=8,scale=pow2(4,bias=7))",
    "block(ufixed(5,3),size=5,scale=pow2(3,bias=4))",
    "block(fixed(6,9),size=8,scale=pow2(10,bias=500))",
    'block(table("nf4"),size=8,scale=pow2(4))',
]
STATIC = [
    ("block(fixed(8,0),size=4,scale=bf16)", 0.0137),
    ("block(fixed(4,0),size=16,scale=fp8_e4m3)", 0.4375),
    ('block(fixed(3,0),size="tensor",scale=bf16)', 3.0),
    ('block(ufixed(6,0),size="all",scale=bf16)', 0.11),
    ("block(fp6_e2m3,size=8,scale=bf16)", 1.7),
    ("block(binary,size=8,scale=bf16)", 0.3),
    ("block(ternary,size=8,scale=bf16)", 0.3),
]
ROWS, ROW = 40, 22
LARGEST = torch.finfo(torch.float32).max


def port(stream: Stream, folder: Path) -> Port:
    """The port of a stream, as it is read in an emitted folder."""
    for path, content in tables(stream, f"s_axis_{stream.name}").items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return Port.of(json.loads(json.dumps(port_json(stream, "s_axis"))), folder)


def numbers(seed: int, near: torch.Tensor) -> torch.Tensor:
    """Float32 (samples, ROWS, ROW): normal numbers of every size, extremes, values and ties."""
    r = torch.Generator().manual_seed(seed)
    shape = (6, ROWS, ROW)
    sizes = 2.0 ** torch.randint(-40, 40, (6, ROWS, 1), generator=r)
    x = torch.randn(shape, generator=r) * sizes
    x[1] = torch.randn(shape[1:], generator=r)
    picked = near[torch.randint(0, len(near), shape[1:], generator=r)]
    x[2] = picked.float()
    other = near[torch.randint(0, len(near), shape[1:], generator=r)]
    x[3] = ((picked + other) / 2).float()  # ties, where they are neighbours
    x[4] = torch.nextafter(x[3], torch.randn(shape[1:], generator=r))
    x[5, :8] = torch.tensor([0.0, -0.0, LARGEST, -LARGEST, 1e-45, -1e-45, 1.0, -1.0])[
        torch.randint(0, 8, (8, ROW), generator=r)
    ]
    x[5, 8], x[5, 9] = 0.0, -0.0
    return x.clamp(-LARGEST, LARGEST)


def stream_of(codes: Codes, lanes: int) -> Stream:
    return Stream("x", (ROWS, ROW), lanes, codes)


def check(codes: Codes, folder: Path, lanes: int) -> None:
    stream = stream_of(codes, lanes)
    here = port(stream, folder)
    neighbours = codes.element.values() * float(codes.factor if codes.dynamic_scale is None else 1)
    middles = (neighbours[1:] + neighbours[:-1]) / 2
    x = numbers(7, torch.cat([neighbours, middles]))
    data = encode(stream, x).tobytes()
    assert here.encode(x.numpy()) == data
    assert _same(here.decode(data), decode(stream, from_bytes(stream, data)))
    noise = np.random.Generator(np.random.PCG64(1)).integers(0, 256, len(data), np.uint8).tobytes()
    assert _same(here.decode(noise), decode(stream, from_bytes(stream, noise)))
    assert here.pack(*here.unpack(data)) == data
    for once, again in zip(
        here.unpack(noise), here.unpack(here.pack(*here.unpack(noise))), strict=True
    ):
        assert np.array_equal(once, again)  # of noise the first scale of a block counts


def _same(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    assert ours.dtype == np.float32
    assert ours.shape == tuple(theirs.shape)
    both_nan = np.isnan(ours) & theirs.isnan().numpy()
    return bool(
        ((ours.view(np.int32) == theirs.contiguous().view(torch.int32).numpy()) | both_nan).all()
    )


@pytest.mark.parametrize("name", SCALARS)
def test_scalars(name: str, tmp_path: Path) -> None:
    check(Codes(parse(name)), tmp_path, 5)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str, tmp_path: Path) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Block)
    check(Codes(fmt), tmp_path, 1)
    if int(fmt.size) % 2 == 0:
        check(Codes(fmt), tmp_path, 2)


@pytest.mark.parametrize(("name", "scale"), STATIC)
def test_static_scales(name: str, scale: float, tmp_path: Path) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Block)
    stored = float(fmt.scale.quantize(torch.tensor(scale)))
    check(Codes(fmt, stored), tmp_path, 3)


@pytest.mark.parametrize("bits", [2, 20, 53, 62, 63, 64, 65, 128])
@pytest.mark.parametrize("exponent", [-160, -30, 0, 7])
def test_integers_round_once(bits: int, exponent: int, tmp_path: Path) -> None:
    values = Integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, exponent)
    stream = Stream("x", (3, 7), 2, values)
    here = port(stream, tmp_path)
    r = np.random.Generator(np.random.PCG64(2))
    noise = r.integers(0, 256, 8 * stream.beats * stream.beat_bytes, np.uint8).tobytes()
    got = here.decode(noise)
    assert _same(got, decode(stream, from_bytes(stream, noise)))
    packed = here.beats_of(here.pack(*here.unpack(noise)))
    assert (packed == here.beats_of(noise) & here.mask).all()
    n = int(here.unpack(noise)[0].ravel()[0])
    nearest = (
        np.float32(float(Fraction(n) * Fraction(2) ** exponent)) if bits <= 53 else got.ravel()[0]
    )
    assert got.ravel()[0] == nearest


def test_a_tie_beyond_float64_is_broken_by_the_last_bit(tmp_path: Path) -> None:
    stream = Stream("x", (3,), 1, Integers(-(2**100), 2**100 - 1, 0))
    here = port(stream, tmp_path)
    tie = (1 << 99) + (1 << 75)  # halfway between two float32 numbers
    data = here.pack(np.array([[tie, tie + 1, tie - 1]], dtype=object))
    down, up = 2.0**99, 2.0**99 + 2.0**76
    assert here.decode(data).tolist() == [[down, up, down]]


def test_wide_formats_have_codes_but_no_numbers(tmp_path: Path) -> None:
    stream = stream_of(Codes(parse("fixed(24,10)")), 2)
    assert stream.values.bits > WIDEST_TABLE
    here = port(stream, tmp_path)
    codes = np.arange(ROWS * ROW).reshape(1, ROWS, ROW)
    assert (here.unpack(here.pack(codes))[0] == codes).all()
    with pytest.raises(ValueError, match="more than 16 bits a value"):
        here.encode(np.zeros((1, ROWS, ROW), np.float32))


def test_errors_name_the_port(tmp_path: Path) -> None:
    here = port(stream_of(Codes(parse("fixed(8,4)")), 2), tmp_path)
    with pytest.raises(ValueError, match=r"s_axis_x: float64 .* is not float32"):
        here.encode(np.zeros((1, ROWS, ROW)))
    with pytest.raises(ValueError, match="NaN or Inf has no code"):
        here.encode(np.full((1, ROWS, ROW), np.nan, np.float32))
    with pytest.raises(ValueError, match="3 bytes are no whole samples"):
        here.decode(b"abc")
