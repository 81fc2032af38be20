"""Every scalar format of at most ten bits against exact fractions: codes, midpoints, saturation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from tests.unit.formats.grid import INFINITY, NAN, codes_of, grid_of

from quire.errors import FormatError
from quire.formats import (
    Binary,
    DenormedMinifloat,
    Fixed,
    Log,
    Minifloat,
    Pow2,
    Scalar,
    Table,
    Ternary,
    UFixed,
    families,
    presets,
)

LIMIT = 10

FIXED = [Fixed(w, f) for w in range(2, 11) for f in (-4, 0, w - 2, w - 1, w, w + 5, 40, -40, 140)]
UFIXED = [UFixed(w, f) for w in range(1, 11) for f in (-4, 0, w - 1, w, w + 5, 140)]
MINIFLOAT = [Minifloat(e, m) for e in range(1, 6) for m in range(7) if 1 + e + m <= LIMIT]
BIASED = [
    Minifloat(e, m, bias)
    for e, m in ((1, 2), (2, 1), (2, 3), (4, 3), (5, 2), (3, 0), (8, 1))
    for bias in (-40, -1, 0, 2, 20, 100, 127, 135, 140, 200)
]
IEEE = [Minifloat(e, m, special="ieee") for e in range(2, 9) for m in range(1, 7) if e + m < LIMIT]
NAN_ONLY = [
    Minifloat(e, m, special="nan") for e in range(1, 6) for m in range(1, 7) if e + m < LIMIT
]
DMF = [DenormedMinifloat(e, m) for e in range(1, 5) for m in range(1, 7) if e + m < LIMIT]
DMF += [DenormedMinifloat(e, m, bias) for e, m in ((2, 1), (3, 3)) for bias in (-30, 0, 60, 140)]
LOG = [Log(w) for w in range(2, 11)]
LOG += [Log(w, bias) for w in (2, 4, 8, 9) for bias in (-100, -3, 0, 1, 40, 127, 140, 149, 200)]
POW2 = [Pow2(e) for e in range(1, 11)] + [Pow2(8, 0), Pow2(4, 3), Pow2(4, -9), Pow2(5, 140)]
SIGNS = [Binary(), Ternary(), Table("nf4")]
NAMED = [f for f in presets.values() if isinstance(f, Scalar) and f.bits <= LIMIT]
SMALL = dict.fromkeys(
    [*FIXED, *UFIXED, *MINIFLOAT, *BIASED, *IEEE, *NAN_ONLY, *DMF, *LOG, *POW2, *SIGNS, *NAMED]
)

small = pytest.mark.parametrize("fmt", SMALL, ids=str)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])
BITS = {torch.float64: torch.int64, torch.float32: torch.int32}
BITS |= dict.fromkeys((torch.bfloat16, torch.float16), torch.int16)


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equal as float64 bit patterns; any NaN equals any other."""
    return (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))


def assert_rounds_like_its_grid(fmt, x: torch.Tensor):
    got = fmt.quantize(x).double().numpy()
    exact = x.double().numpy()
    wrong = ~same_bits(got, grid_of(fmt).round(exact))
    assert not wrong.any(), [
        (v.hex(), "gives", q.hex(), "not", r.hex())
        for v, q, r in zip(exact[wrong], got[wrong], grid_of(fmt).round(exact)[wrong], strict=True)
    ][:5]


def fits(fmt, dtype: torch.dtype) -> bool:
    """Whether the dtype represents every finite value of the format."""
    values = torch.from_numpy(grid_of(fmt).values)
    return bool((values.to(dtype).double() == values).all())


def neighbours(x: torch.Tensor) -> torch.Tensor:
    """The numbers, and those of the same dtype on both sides of each."""
    bits = x.view(BITS[x.dtype])
    bits = torch.where(x == 0, 0, bits)
    sides = torch.cat([bits, bits + 1, torch.where(x == 0, bits, bits - 1)])
    return torch.cat([sides.view(x.dtype), -sides.view(x.dtype)])


def probes(fmt, dtype: torch.dtype) -> torch.Tensor:
    """Values, midpoints and rounding boundaries with their neighbours, the ends of the dtype."""
    grid = grid_of(fmt)
    middles = (grid.values[1:] + grid.values[:-1]) / 2
    reach = max(abs(grid.values[0]), grid.values[-1])
    step = grid.values[-1] - grid.values[-2]
    beyond = [reach + step * k for k in (0.25, 0.5, 0.75, 1, 2)] + [reach * 2, reach * 1e3]
    info = torch.finfo(dtype)
    ends = [info.max, info.tiny, info.smallest_normal / 3, info.tiny * info.eps, 0.0]
    points = np.concatenate([grid.values, middles, grid.boundaries, beyond, ends, [1.0, 3.0]])
    near = neighbours(torch.from_numpy(points).to(dtype))
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan], dtype=dtype)
    return torch.cat([near[near.isfinite()], special])


@small
@each_dtype
def test_every_midpoint_and_its_neighbours_round_as_specified(fmt, dtype):
    if fits(fmt, dtype):
        assert_rounds_like_its_grid(fmt, probes(fmt, dtype))
    else:
        with pytest.raises(FormatError, match="convert the tensor to"):
            fmt.quantize(torch.zeros(1, dtype=dtype))


@small
def test_every_float16_rounds_as_specified(fmt):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    x = every.float() if fits(fmt, torch.float32) else every.double()
    assert_rounds_like_its_grid(fmt, x)


def meaning_as_float(meaning) -> float:
    return {NAN: math.nan, INFINITY: math.inf}.get(meaning) or float(meaning)


@small
def test_every_code_decodes_to_its_meaning_and_encodes_to_the_canonical_code(fmt):
    meanings = codes_of(fmt)
    assert sorted(c.bits for c in meanings) == list(range(2**fmt.bits))
    expected = np.array([meaning_as_float(c.magnitude) for c in meanings])
    expected = np.where([c.negative for c in meanings], -expected, expected)
    codes = torch.tensor([c.bits for c in meanings])
    decoded = fmt.values_of(codes)
    assert same_bits(decoded.numpy(), expected).all()

    finite = np.isfinite(expected)
    encoded = fmt.encode(decoded[finite])
    assert encoded.codes.tolist() == grid_of(fmt).encode(expected[finite]).tolist()
    again = fmt.decode(encoded)
    assert same_bits(again.numpy(), expected[finite]).all()
    infinite = torch.from_numpy(expected[np.isinf(expected)])
    assert same_bits(fmt.decode(fmt.encode(infinite)).numpy(), infinite.numpy()).all()
    nans = torch.from_numpy(expected[np.isnan(expected)])
    assert fmt.decode(fmt.encode(nans)).isnan().all()


@small
def test_values_lists_the_finite_meanings(fmt):
    assert fmt.values().tolist() == grid_of(fmt).values.tolist()


@small
def test_the_record_states_what_the_codes_mean(fmt):
    grid = grid_of(fmt)
    assert (fmt.lowest, fmt.highest) == (grid.values[0], grid.values[-1])
    assert math.floor(math.log2(grid.values[-1])) == fmt.emax
    quantum = Fraction(2) ** fmt.quantum_exponent
    multiples = [Fraction(float(v)) / quantum for v in grid.values]
    assert all(m.denominator == 1 for m in multiples)
    assert any(m.numerator % 2 for m in multiples)
    nans = [c.bits for c in codes_of(fmt) if c.magnitude == NAN]
    assert fmt.nan_code in nans if nans else fmt.nan_code is None


def test_every_scalar_family_is_here():
    scalars = {f for f in families.values() if isinstance(f, type) and issubclass(f, Scalar)}
    assert scalars == {type(f) for f in SMALL}


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_sixteen_bit_floats_have_every_value_of_their_grid(name):
    fmt = presets[name]
    x = probes(fmt, torch.float32)
    assert_rounds_like_its_grid(fmt, x)
    assert_rounds_like_its_grid(fmt, probes(fmt, torch.float64))
    codes = torch.arange(2**16)
    values = fmt.values_of(codes)
    native = (
        codes.to(torch.int32)
        .to(torch.int16)
        .view({"fp16": torch.float16, "bf16": torch.bfloat16}[name])
    )
    assert same_bits(values.numpy(), native.double().numpy()).all()
