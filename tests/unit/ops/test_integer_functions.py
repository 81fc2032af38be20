"""Softmax and norms of fixed-point codes, against fractions and against float64."""

import math
from fractions import Fraction

import pytest
import torch
from mpmath import mp

from quire.formats import parse
from quire.ops import exact_value as ev
from quire.ops.integer_functions import (
    exponential_table,
    layer_norm,
    reciprocal_root,
    rms_norm,
    softmax,
)


def codes(w: int, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(1 << (w - 1)), 1 << (w - 1), shape, generator=generator)


def test_exponential_table() -> None:
    table = exponential_table(8, 4, 15)
    assert (len(table), table[0]) == (256, 1 << 15)
    with mp.workprec(400):
        for d, entry in enumerate(table):
            assert abs(mp.exp(mp.mpf(-d) / 16) * 2**15 - entry) < mp.mpf(1) / 2


@pytest.mark.parametrize(("w", "f", "p"), [(8, 4, 15), (6, 2, 12), (10, 6, 10), (4, 8, 15)])
def test_softmax_is_the_rational_of_the_table(w: int, f: int, p: int) -> None:
    s = codes(w, 3, 17, seed=1)
    masked = codes(2, 3, 17, seed=2) == 0
    masked[1] = True
    table = exponential_table(w, f, p)
    expected: list[Fraction] = []
    for row, hidden in zip(s.tolist(), masked.tolist(), strict=True):
        seen = [v for v, h in zip(row, hidden, strict=True) if not h]
        terms = [0 if h else table[max(seen) - v] for v, h in zip(row, hidden, strict=True)]
        expected += [Fraction(t, max(sum(terms), 1)) for t in terms]
    got = softmax(s, w, f, 1, masked, p)
    assert got.fractions() == expected
    turned = softmax(s.T, w, f, 0, masked.T, p).move(lambda t: t.T)
    assert turned.fractions() == expected


@pytest.mark.parametrize(("p", "bound"), [(15, 0.52), (12, 0.63), (10, 1.7)])
def test_softmax_error_at_eight_output_bits(p: int, bound: float) -> None:
    """numerics.md: the worst error at 8 output bits is p=15 0.51 ulp, 12 0.62, 10 1.6."""
    s = codes(8, 400, 17, seed=3)
    true = torch.softmax(s.double() / 16, -1)
    got = parse("ufixed(8,8)").quantize(softmax(s, 8, 4, -1, p=p).to_sticky_float64())
    error = (got - true.clamp(max=255 / 256)).abs().max().item() * 256
    assert error < bound


def test_softmax_rounds_by_twice_the_remainder() -> None:
    s = codes(6, 50, 9, seed=4)
    exact = softmax(s, 6, 2, -1)
    got = parse("ufixed(8,8)").quantize(exact.to_sticky_float64())
    for value, result in zip(exact.fractions(), got.flatten().tolist(), strict=True):
        assert result == float(min(round(value * 256), 255)) / 256


def test_reciprocal_root_is_the_floor_of_the_root() -> None:
    for d in [1, 2, 3, 4, 5, 1000, 2**31 - 1, 2**40 + 7, 10**15]:
        for c, b in [(1, 16), (33, 16), (1, 10)]:
            root, shift = reciprocal_root(d, c, b)
            assert root * root * d <= c << (2 * shift) < (root + 1) ** 2 * d + d
            assert shift == b + math.ceil(d.bit_length() / 2)


@pytest.mark.parametrize("b", [16, 10])
def test_layer_norm_in_fractions(b: int) -> None:
    x, n, f, epsilon = codes(8, 4, 3, 11, seed=5), 33, 4, 1e-5
    gamma, beta = torch.randn(3, 11), torch.randn(3, 11)
    got = layer_norm(x, f, 2, ev.from_float(gamma), ev.from_float(beta), epsilon, b).fractions()
    scale = [Fraction(v) for v in gamma.flatten().tolist()]
    shift = [Fraction(v) for v in beta.flatten().tolist()]
    for i, row in enumerate(x.flatten(1).tolist()):
        s1, s2 = sum(row), sum(v * v for v in row)
        d = n * s2 - s1 * s1 + max(1, round(Fraction(epsilon) * n * n * 4**f))
        root, places = reciprocal_root(d, 1, b)
        expected = [
            Fraction((n * v - s1) * root, 1 << places) * g + h
            for v, g, h in zip(row, scale, shift, strict=True)
        ]
        assert got[i * n : (i + 1) * n] == expected


def test_layer_norm_error_in_output_ulps() -> None:
    """numerics.md: the worst error is b=16 0.500 ulp, b=10 0.55."""
    x = codes(8, 300, 64, seed=6)
    true = torch.nn.functional.layer_norm(x.double() / 16, (64,), eps=1e-5)
    for b, bound in ((16, 0.503), (10, 0.56)):
        value = layer_norm(x, 4, 1, None, None, 1e-5, b).to_sticky_float64()
        got = parse("fixed(8,5)").quantize(value)
        assert (got - true.clamp(-4, 127 / 32)).abs().max().item() * 32 < bound


def test_rms_norm_in_fractions_and_near_float64() -> None:
    x, n, f, epsilon = codes(9, 5, 24, seed=7), 24, 5, 1e-6
    gamma = torch.randn(24)
    got = rms_norm(x, f, 1, ev.from_float(gamma), epsilon)
    for i, row in enumerate(x.tolist()):
        d = sum(v * v for v in row) + max(1, round(Fraction(epsilon) * n * 4**f))
        root, places = reciprocal_root(d, n, 16)
        weights = zip(row, gamma.tolist(), strict=True)
        expected = [Fraction(v * root, 1 << places) * Fraction(g) for v, g in weights]
        assert got.fractions()[i * n : (i + 1) * n] == expected
    true = torch.nn.functional.rms_norm(x.double() / 2**f, (n,), gamma.double(), epsilon)
    torch.testing.assert_close(got.to_sticky_float64(), true, rtol=2**-15, atol=0)


def test_a_constant_row_has_no_spread() -> None:
    x = torch.full((2, 8), 5)
    assert layer_norm(x, 4, 1, None, None, 1e-5).fractions() == [Fraction()] * 16
    assert rms_norm(torch.zeros(2, 8, dtype=torch.int64), 4, 1, None, 0.0).fractions() == [0] * 16


@pytest.mark.parametrize("size", [2**31 - 1, 10**9])
def test_norms_of_32_bit_codes_do_not_overflow(size: int) -> None:
    torch.manual_seed(0)
    codes = torch.randint(-size - 1, size + 1, (3, 64))
    x = codes.double()
    layer = layer_norm(codes, 0, 1, None, None, 1e-5).to_float32()
    rms = rms_norm(codes, 0, 1, None, 1e-5).to_float32()
    expected = torch.nn.functional.layer_norm(x, (64,)).float()
    torch.testing.assert_close(layer, expected, rtol=1e-4, atol=1e-6)
    expected = torch.nn.functional.rms_norm(x, (64,)).float()
    torch.testing.assert_close(rms, expected, rtol=1e-4, atol=1e-6)
