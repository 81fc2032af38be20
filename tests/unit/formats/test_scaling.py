"""Every scale rule against the block reference, bit for bit, on random and adversarial blocks."""

import math

import numpy as np
import pytest
import torch
from tests.unit.formats.grid import grid_of
from tests.unit.formats.reference import quantized

from quire.errors import FormatError
from quire.formats import Block, Fixed, Log, Minifloat, Pow2, bfp, bl, bm, parse, presets

POWER_OF_TWO = [
    *(f for f in presets.values() if isinstance(f, Block) and isinstance(f.scale, Pow2)),
    *(bfp(w, size=size) for w, size in ((2, 16), (4, 16), (8, 5), (5, 1))),
    bfp(8, scale_bits=4, size=16),
    bfp(8, scale_bits=4, size=16, bias=3),
    bfp(6, scale_bits=1, size=8, bias=0),
    bfp(4, scale_bits=9, size=8),
    *(bm(e, m) for e, m in ((2, 1), (2, 3), (3, 2), (4, 3), (5, 2), (1, 2), (3, 0))),
    bm(2, 3, scale_bits=3, size=8, bias=5),
    *(bl(w) for w in (2, 4, 6, 8, 10)),
    bl(4, scale_bits=4, size=8, bias=-2),
    bm(4, 3, scale_bits=2, bias=-12),
    bm(4, 3, scale_bits=2, bias=-125),
    bfp(8, scale_bits=2, bias=-126),
    bl(4, scale_bits=2, bias=-120),
    Block(parse("dmf(e=3,m=2)"), 16, Pow2(8)),
    Block(parse("dmf(e=2,m=1)"), 16, Pow2(8)),
    Block(Fixed(8, 0), 16, Pow2(8)),
    Block(Fixed(4, 9), 16, Pow2(8)),
    Block(Log(5), 16, Pow2(8)),
    Block(Log(4, 20), 16, Pow2(8)),
    Block(Minifloat(4, 3, 140), 16, Pow2(8)),
    Block(parse("table('nf4')"), 16, Pow2(8)),
    Block(parse("ufixed(8,4)"), 16, Pow2(8)),
    Block(Fixed(8, 6), "all", Pow2(8)),
    Block(Minifloat(2, 1), "tensor", Pow2(8)),
]
REAL_SCALES = [presets[name] for name in ("fp32", "bf16", "fp8_e4m3")]
REAL = [
    *(f for f in presets.values() if isinstance(f, Block) and not isinstance(f.scale, Pow2)),
    *(Block(Fixed(w, 0), 16, scale) for w in (2, 4, 8) for scale in REAL_SCALES),
    *(Block(parse(e), 16, s) for e in ("binary", "ternary", "fp4_e2m1") for s in REAL_SCALES),
    *(Block(parse(e), 16, presets["fp32"]) for e in ("fp8_e4m3", "log(4)", "dmf(e=2,m=2)")),
    *(
        Block(parse(f"ufixed({w},0)"), 16, s, zero_point=True)
        for w in (1, 3, 8)
        for s in REAL_SCALES
    ),
    Block(parse("ufixed(4,0)"), 16, presets["fp32"]),
    Block(parse("ufixed(8,0)"), "tensor", presets["fp32"], zero_point=True),
    Block(parse("binary"), "tensor", presets["fp32"]),
    Block(parse("ternary"), "all", presets["bf16"]),
    Block(Fixed(8, 0), "tensor", presets["fp32"]),
    Block(parse("fp4_e2m1"), 7, presets["fp8_e4m3"], tensor_scale=presets["fp32"]),
]
BLOCKS = list(dict.fromkeys([*POWER_OF_TWO, *REAL]))
blocks = pytest.mark.parametrize("fmt", BLOCKS, ids=str)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def wrong_positions(fmt: Block, x: torch.Tensor, axis: int = -1) -> list[str]:
    """Where `quantize` and the reference differ, signs of zero included."""
    got = fmt.quantize(x, axis).double().numpy()
    expected = quantized(fmt, x, axis)
    same = got.view(np.int64) == np.ascontiguousarray(expected).view(np.int64)
    wrong = ~(same | (np.isnan(got) & np.isnan(expected)))
    return [
        f"{where}: {x[tuple(where)].item()!r} gives {got[tuple(where)]!r},"
        f" not {expected[tuple(where)]!r}"
        for where in np.argwhere(wrong)[:5]
    ]


def usable(fmt: Block, dtype: torch.dtype) -> bool:
    """Whether the dtype has the significand bits that a power-of-two block's elements need."""
    eps = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}
    return not isinstance(fmt.scale, Pow2) or fmt.element.precision <= eps[dtype]


def exponents(dtype: torch.dtype) -> list[int]:
    top = math.frexp(torch.finfo(dtype).max)[1] - 1
    bottom = math.frexp(torch.finfo(dtype).smallest_normal)[1] - 1
    ends = [bottom - 6, bottom - 1, bottom, bottom + 1, bottom + 9, top - 9, top - 1, top]
    return [*ends, -5, -1, 0, 1, 7]


def adversarial(fmt: Block, dtype: torch.dtype) -> torch.Tensor:
    """Rows of one block: maxima at and beside powers of two, values at and beside ties."""
    width = fmt.size if isinstance(fmt.size, int) else 24
    grid = grid_of(fmt.element)
    generator = np.random.default_rng(7)
    ties = (grid.values[1:] + grid.values[:-1]) / 2
    ties = np.concatenate([ties, grid.boundaries, grid.values]) / grid.values[-1]
    maxima = (
        1.0,
        1.0 - 2.0**-9,
        1.0 + 2.0**-7,
        1.5,
        1.75,
        1.96,
        1.984375,
        1.99609375,
        2 - 2.0**-10,
    )
    rows = []
    for exponent in exponents(dtype):
        for maximum in maxima:
            others = generator.choice(ties, width - 1) * generator.choice(
                [1, 1.5, maximum], width - 1
            )
            noise = generator.choice([0, 2.0**-24, -(2.0**-24), 2.0**-9], width - 1)
            others = np.clip(others * (1 + noise), -maximum, maximum)
            sign = generator.choice([-1.0, 1.0])
            rows.append(np.ldexp(np.concatenate([[sign * maximum], others]), exponent))
    rows += [np.zeros(width), -np.zeros(width), np.full(width, torch.finfo(dtype).max)]
    rows += [np.concatenate([[-np.finfo(np.float64).tiny, torch.finfo(dtype).max], others])[:width]]
    single = np.zeros(width)
    single[-1] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    rows += [single, -single]
    largest = torch.finfo(dtype).max
    return torch.from_numpy(np.stack(rows)).clamp(-largest, largest).to(dtype)


def separate(fmt: Block) -> bool:
    """Whether rows may be quantized together without one's scale touching another's."""
    return fmt.size != "tensor" and not fmt.tensor_scale


@blocks
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])
def test_adversarial_blocks_equal_the_reference(fmt, dtype):
    x = adversarial(fmt, dtype)
    if not usable(fmt, dtype):
        with pytest.raises(FormatError, match="convert the tensor to"):
            fmt.quantize(x)
        return
    assert torch.isfinite(x).all()
    tensors = [x] if separate(fmt) else list(x.split(1))
    assert not [wrong for t in tensors for wrong in wrong_positions(fmt, t)]


def random_tensor(shape, dtype, seed) -> torch.Tensor:
    """Normal numbers under magnitudes that differ from row to row and from value to value."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    spread = torch.randint(-12, 12, (*shape[:-1], 1), generator=generator).double()
    near = torch.randint(-3, 3, shape, generator=generator).double()
    x = x * torch.exp2(spread) * torch.exp2(near)
    return torch.where(torch.rand(shape, generator=generator) < 0.05, 0.0, x).to(dtype)


@blocks
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])
def test_random_blocks_equal_the_reference(fmt, dtype):
    if usable(fmt, dtype):
        assert not wrong_positions(fmt, random_tensor((24, 77), dtype, seed=1))
        assert not wrong_positions(fmt, random_tensor((3, 41, 5), dtype, seed=2), axis=1)


@pytest.mark.nightly
@blocks
def test_many_random_blocks_equal_the_reference(fmt):
    for seed in range(6):
        assert not wrong_positions(fmt, random_tensor((256, 95), torch.float32, seed))


@blocks
def test_a_bad_value_harms_its_own_block_only(fmt):
    x = random_tensor((6, 66), torch.float32, seed=3)
    for bad in (math.nan, math.inf, -math.inf):
        spoilt = x.clone()
        spoilt[2, 40] = bad
        assert not wrong_positions(fmt, spoilt)
        harmed = fmt.quantize(spoilt).isnan()
        size = {"all": 66, "tensor": 66}.get(fmt.size, fmt.size)
        first = 40 - 40 % size
        rows = range(6) if fmt.size == "tensor" else [2]
        expected = torch.zeros(6, 66, dtype=torch.bool)
        for row in rows:
            expected[row, first : first + size] = True
        assert torch.equal(harmed, expected)


STATIC = [
    ("mxint8", 2.0, lambda v: np.clip(np.rint(v / 2 * 64), -127, 127) / 64 * 2),
    ("block(fixed(4,0),size=16,scale=fp32)", 0.1, None),
    ("int8", 0.0371, None),
    ("int4_g128", 0.25, None),
]


@pytest.mark.parametrize(("name", "scale", "formula"), STATIC)
def test_a_static_scale_replaces_the_one_in_the_data(name, scale, formula):
    fmt = parse(name)
    x = random_tensor((8, 160), torch.float32, seed=4)
    if formula is None:
        s = np.float32(grid_of(presets["bf16"]).round(np.array([scale]))[0])
        s = np.float32(scale) if fmt.scale == presets["fp32"] else s
        top = fmt.element.highest
        expected = np.clip(np.rint(x.numpy() / s), -top, top).astype(np.float32) * s
    else:
        expected = formula(x.double().numpy())
    got = fmt.quantize(x, scale=scale)
    assert np.array_equal(got.double().numpy(), expected.astype(np.float64))
    # Blocks no longer see each other: any part gives the same values.
    assert torch.equal(got[3:4, 5:40], fmt.quantize(x[3:4, 5:40], scale=scale))
    assert torch.equal(fmt.decode(fmt.encode(x, scale=scale)), got)


def test_a_static_scale_may_differ_from_channel_to_channel():
    fmt = parse("int8")
    x = random_tensor((4, 30), torch.float32, seed=5)
    scale = torch.tensor([[0.5], [0.25], [2.0], [1.0]])
    whole = fmt.quantize(x, scale=scale)
    rows = [fmt.quantize(x[i : i + 1], scale=scale[i].item()) for i in range(4)]
    assert torch.equal(whole, torch.cat(rows))


def test_a_static_asymmetric_scale_is_a_pair():
    fmt = parse("uint8")
    x = random_tensor((4, 30), torch.float32, seed=6)
    codes = np.clip(np.rint(x.numpy() / np.float32(0.5)) + 10, 0, 255)
    assert np.array_equal(fmt.quantize(x, scale=(0.5, 10.0)).numpy(), (codes - 10) * 0.5)


def test_a_static_scale_that_does_not_fit_is_an_error():
    x = torch.ones(4, 64)
    with pytest.raises(FormatError) as error:
        parse("mxint8").quantize(x, scale=torch.ones(4, 3))
    assert str(error.value) == (
        "mxint8: a static scale of shape (4, 3) does not broadcast to the shape of the scales,"
        " (4, 2)"
    )
    with pytest.raises(FormatError, match=r"uint8: a static scale is \(scale, zero point\), not 1"):
        parse("uint8").quantize(x, scale=1.0)
    with pytest.raises(FormatError, match=r"fixed\(8,4\) has no scale"):
        parse("fixed(8,4)").quantize(x, scale=1.0)


def test_an_element_that_float32_does_not_hold_takes_no_real_scale():
    with pytest.raises(FormatError, match=r"element fixed\(26,0\) takes a scale pow2\(e\)"):
        Block(Fixed(26, 0), 16, presets["fp32"])
