"""Correctly rounded functions: against exact rationals, mpmath at other precisions, and torch."""

import math
from bisect import bisect
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from mpmath import mp, mpf
from torch import Tensor

from quire.formats import parse
from quire.ops import op_named
from quire.ops.real_functions import FUNCTIONS, rounded_to_odd, tabulate

CONSTANTS: dict[str, list[tuple[float, ...]]] = {"pow": [(2.0,), (3.0,), (0.5,), (-1.5,)]}


def torch_function(name: str, x: Tensor, *constants: float) -> Tensor:
    return op_named(name).targets[0](x, *constants)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_close_to_torch_in_float64(name: str) -> None:
    x = parse("fp8_e4m3").values()
    for constants in CONSTANTS.get(name, [()]):
        reference = torch_function(name, x, *constants)
        got = tabulate(name, x, reference, *constants)
        torch.testing.assert_close(got, reference, rtol=1e-12, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_truncated_or_sticky_against_more_bits(name: str) -> None:
    """Every entry is the true value, or its 53-bit neighbour with an odd last bit."""
    constants = CONSTANTS.get(name, [()])[0]
    points = [0.0, 1.0, -1.0, 0.375, -2.5, 19.0, -40.0, 100.0, 2.0**-30, -(2.0**-60)]
    for x in points:
        odd = rounded_to_odd(name, x, *constants)
        if odd is None or abs(odd) == 2.0**-1000:
            continue
        with mp.workprec(2500):
            true = FUNCTIONS[name](mpf(x), *constants)
            if odd == true:
                continue
            ulp = math.ulp(odd)
            assert abs(true - mpf(odd)) < ulp, (name, x)
            assert int(abs(odd) / ulp) % 2 == 1, (name, x)


def test_saturating_functions_stay_on_their_side() -> None:
    below, above = math.nextafter(1, 0), math.nextafter(100.0, 200)
    for x in (50.0, 1e4, 3e38):
        assert rounded_to_odd("tanh", x) == below
        assert rounded_to_odd("erf", x) == below
        assert rounded_to_odd("sigmoid", x) == below
    assert rounded_to_odd("tanh", -3e38) == -below
    assert rounded_to_odd("expm1", -3e4) == -below
    assert rounded_to_odd("softplus", 100.0, 1, 1000) == above
    assert rounded_to_odd("softplus", 100.0) == 100.0
    assert rounded_to_odd("log_sigmoid", -3e4) == -math.nextafter(3e4, 1e5)
    assert rounded_to_odd("silu", 3e38) == math.nextafter(3e38, 0)
    assert rounded_to_odd("gelu", 3e38) == math.nextafter(3e38, 0)


def test_exact_points_are_exact() -> None:
    assert rounded_to_odd("sigmoid", 0.0) == 0.5
    assert rounded_to_odd("exp", 0.0) == 1.0
    assert rounded_to_odd("cos", 0.0) == 1.0
    assert rounded_to_odd("tanh", 0.0) == 0.0
    assert rounded_to_odd("sqrt", 2.25) == 1.5
    assert rounded_to_odd("rsqrt", 0.0625) == 4.0
    assert rounded_to_odd("reciprocal", -0.5) == -2.0
    assert rounded_to_odd("pow", 1.5, 3.0) == 3.375
    assert rounded_to_odd("hardswish", 3.0) == 3.0


def test_tiny_arguments() -> None:
    tiny = 2.0**-133
    assert rounded_to_odd("exp", tiny) == math.nextafter(1, 2)
    assert rounded_to_odd("exp", -tiny) == math.nextafter(1, 0)
    assert rounded_to_odd("cos", tiny) == math.nextafter(1, 0)
    assert rounded_to_odd("sin", tiny) == math.nextafter(tiny, 0)
    assert rounded_to_odd("log1p", tiny) == math.nextafter(tiny, 0)


def test_huge_and_impossible_values() -> None:
    assert rounded_to_odd("exp", 3e38) == torch.finfo(torch.float64).max
    assert rounded_to_odd("exp", -3e38) == 2.0**-1000
    for name, x in [("log", -1.0), ("sqrt", -1.0), ("reciprocal", 0.0), ("log", 0.0)]:
        assert rounded_to_odd(name, x) is None
    x = torch.tensor([-1.0, 0.0, math.inf, 1.0], dtype=torch.float64)
    got = tabulate("log", x, torch.log(x))
    assert got[0].isnan()
    assert got[1:].tolist() == [-math.inf, math.inf, 0.0]


@pytest.mark.parametrize("target", ["fixed(8,6)", "fixed(6,2)", "fp8_e4m3", "bf16"])
@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "reciprocal"])
def test_rational_functions_round_once(name: str, target: str) -> None:
    """Followed by a cast, an entry is the real value rounded once: against fractions."""
    rationals = {
        "hardswish": lambda v: v * min(max(v + 3, Fraction()), Fraction(6)) / 6,
        "hardsigmoid": lambda v: min(max(v + 3, Fraction()), Fraction(6)) / 6,
        "reciprocal": lambda v: 1 / v,
    }
    output = parse(target)
    grid = [Fraction(v) for v in output.values().tolist() if math.isfinite(v)]
    x = parse("fixed(8,4)").values()
    x = x[x != 0]
    got = output.quantize(tabulate(name, x, x)).tolist()
    for v, result in zip(x.tolist(), got, strict=True):
        true = rationals[name](Fraction(v))
        place = bisect(grid, true)
        nearest = min(abs(g - true) for g in grid[max(place - 1, 0) : place + 1])
        assert abs(Fraction(result) - true) == nearest, v


def test_gelu_forms_differ() -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    for form in ("none", "tanh"):
        reference = F.gelu(x, approximate=form)
        got = tabulate("gelu", x, reference, approximate=form)
        torch.testing.assert_close(got, reference, rtol=1e-11, atol=1e-15)
