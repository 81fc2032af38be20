"""Exact arithmetic against `fractions.Fraction`, element by element."""

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quire.ops import exact_arithmetic as ea
from quire.ops import exact_value as ev
from quire.ops.exact_value import Exact


def fractions(x: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in x.double().flatten().tolist()]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def wild(*shape: int, seed: int = 0) -> Tensor:
    """Float32 of every exponent, subnormals included."""
    bits = torch.randint(-(2**31), 2**31, shape, generator=generator(seed)).int()
    x = bits.view(torch.float32)
    return torch.where(x.isfinite(), x, 1.5)


def cancelling(*shape: int, seed: int = 0) -> Tensor:
    """Huge values next to their negatives and tiny ones."""
    x = wild(*shape, seed=seed)
    return torch.cat([x, -x + 2.0**-140, torch.full(shape, 2.0**-149)], -1)


def bf16(*shape: int, seed: int = 0) -> Tensor:
    bits = torch.randint(-(2**15), 2**15, shape, generator=generator(seed)).short()
    x = bits.view(torch.bfloat16)
    return torch.where(x.isfinite(), x, 1.0)


SOURCES: dict[str, Callable[..., Tensor]] = {
    "normal": normal,
    "wild": wild,
    "cancelling": cancelling,
    "bf16": bf16,
}
source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def odd_rounding(value: Fraction) -> float:
    """Round to odd, 53 bits, from the definition (the range of float64 is not reached)."""
    if value == 0:
        return 0.0
    magnitude, exponent = abs(value), 0
    while magnitude >= 2:
        magnitude, exponent = magnitude / 2, exponent + 1
    while magnitude < 1:
        magnitude, exponent = magnitude * 2, exponent - 1
    scaled = magnitude * 2**52
    whole = scaled.numerator // scaled.denominator
    if whole != scaled:
        whole |= 1
    if whole == ev.SQRT2 and magnitude**2 < 2:
        whole -= 1
    return math.copysign(math.ldexp(whole, exponent - 52), value)


def assert_values(x: Exact, expected: list[Fraction]) -> None:
    assert x.fractions() == expected
    assert x.to_sticky_float64().flatten().tolist() == [odd_rounding(v) for v in expected]


@source
def test_from_float_is_exact(make: Callable[..., Tensor]) -> None:
    x = make(7, 33)
    assert_values(ev.from_float(x), fractions(x))
    assert ev.from_float(x).to_float32().equal(torch.where(x == 0, 0.0, x.float()))


@source
@pytest.mark.parametrize("k", [1, 3, 64])
def test_matmul(make: Callable[..., Tensor], k: int) -> None:
    a, b = make(3, k, seed=1), make(4, k, seed=2)
    k = a.shape[1]
    fa, fb = fractions(a), fractions(b)
    expected = [
        sum((fa[i * k + n] * fb[j * k + n] for n in range(k)), Fraction())
        for i, j in itertools.product(range(3), range(4))
    ]
    assert_values(ea.matmul(ev.from_float(a), ev.from_float(b.T)), expected)


@source
def test_dot_products_of_1024_with_bias(make: Callable[..., Tensor]) -> None:
    a, b, bias = make(2, 1024, seed=3), make(2, 1024, seed=4), wild(2, seed=5)
    k = a.shape[1]
    fa, fb = fractions(a), fractions(b)
    expected = [
        sum((fa[i * k + n] * fb[j * k + n] for n in range(k)), Fraction(bias[j].item()))
        for i, j in itertools.product(range(2), range(2))
    ]
    exact = [ev.from_float(t) for t in (a, b, bias)]
    assert_values(ea.linear(*exact), expected)


@source
def test_order_of_summation_cannot_matter(make: Callable[..., Tensor]) -> None:
    a, b = make(5, 96, seed=6), make(7, 96, seed=7)
    order = torch.randperm(a.shape[1], generator=generator())
    whole = ea.linear(ev.from_float(a), ev.from_float(b))
    shuffled = ea.linear(ev.from_float(a[:, order]), ev.from_float(b[:, order]))
    pairs = zip(a.split(17, 1), b.split(17, 1), strict=True)
    blocks = [ea.linear(ev.from_float(p), ev.from_float(q)) for p, q in pairs]
    total = blocks[0]
    for block in blocks[1:]:
        total = ea.add(block, total)
    expected = whole.to_sticky_float64()
    assert expected.equal(shuffled.to_sticky_float64())
    assert expected.equal(total.to_sticky_float64())


@pytest.mark.parametrize("make", [normal, wild, bf16])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "padding": (1, 0)}],
    ids=str,
)
def test_conv2d(make: Callable[..., Tensor], options: dict[str, object]) -> None:
    groups = int(options.get("groups", 1))  # type: ignore[call-overload]
    x, weight = make(2, 4, 6, 5, seed=1), make(4, 4 // groups, 3, 2, seed=2)
    bias = normal(4, seed=3)
    function = partial(F.conv2d, bias=None, **options)
    exact = ea.conv(function, *(ev.from_float(t) for t in (x, weight, bias)))
    padding = options.get("padding", 0)
    patches = F.unfold(
        x.double(),
        (3, 2),
        options.get("dilation", 1),
        padding,
        options.get("stride", 1),  # type: ignore[arg-type]
    )
    patches = patches.unflatten(1, (groups, -1))
    kernels = weight.double().reshape(groups, 4 // groups, -1)
    expected: list[Fraction] = []
    for n, channel, place in itertools.product(range(2), range(4), range(patches.shape[-1])):
        group, row = divmod(channel, 4 // groups)
        pairs = zip(
            fractions(patches[n, group, :, place]), fractions(kernels[group, row]), strict=True
        )
        expected.append(sum((p * w for p, w in pairs), Fraction(bias[channel].item())))
    assert_values(exact, expected)


BINARY = {
    "add": (ea.add, lambda p, q: p + q),
    "sub": (ea.sub, lambda p, q: p - q),
    "mul": (ea.mul, lambda p, q: p * q),
    "maximum": (ea.maximum, max),
    "minimum": (ea.minimum, min),
}


@pytest.mark.parametrize("name", BINARY)
@source
def test_elementwise_with_broadcasting(make: Callable[..., Tensor], name: str) -> None:
    function, reference = BINARY[name]
    a, b = make(5, 1, 9, seed=1), make(4, 9, seed=2)
    wide_a, wide_b = torch.broadcast_tensors(a, b)
    expected = [reference(p, q) for p, q in zip(fractions(wide_a), fractions(wide_b), strict=True)]
    assert_values(function(ev.from_float(a), ev.from_float(b)), expected)


@source
def test_unary_and_scale(make: Callable[..., Tensor]) -> None:
    x = make(4, 25)
    exact, values = ev.from_float(x), fractions(x)
    assert_values(ea.relu(exact), [max(v, Fraction()) for v in values])
    assert_values(ea.neg(exact), [-v for v in values])
    assert_values(ea.absolute(exact), [abs(v) for v in values])
    factor = Fraction(torch.tensor(0.1).item()) / 49
    assert_values(ea.scale(exact, factor), [v * factor for v in values])


@source
def test_sums_and_means_are_exact_rationals(make: Callable[..., Tensor]) -> None:
    x = make(3, 7, 5)
    exact, values = ev.from_float(x), fractions(x)
    n = x.shape[-1]
    rows = [sum(values[i : i + n], Fraction()) for i in range(0, len(values), n)]
    assert_values(ea.sum_over(exact, -1), rows)
    assert_values(ea.mean(exact, -1), [row / n for row in rows])
    assert_values(ea.mean(exact), [sum(values, Fraction()) / len(values)])
    whole = ea.mean(exact, (1, 2), keepdim=True).move(lambda t: t[..., 0])
    both = ea.add(ea.mean(exact, -1), whole)
    thirds = [sum(rows[i : i + 7], Fraction()) / (7 * n) for i in (0, 7, 14)]
    assert_values(both, [row / n + thirds[i // 7] for i, row in enumerate(rows)])


def test_a_long_sum_that_cancels_to_the_smallest_number() -> None:
    big = torch.finfo(torch.float32).max
    x = torch.tensor([big] * 500 + [2.0**-149] + [-big] * 500)
    assert_values(ea.sum_over(ev.from_float(x), 0), [Fraction(2) ** -149])


@source
def test_data_movement(make: Callable[..., Tensor]) -> None:
    x, y = make(3, 6, seed=1), normal(3, 2, seed=2)
    joined = ea.combine(lambda parts: torch.cat(parts, 1), [ev.from_float(x), ev.from_float(y)])
    assert_values(joined, fractions(torch.cat([x.double(), y.double()], 1)))
    turned = joined.move(lambda t: F.pad(t.T, (1, 0)))
    assert_values(turned, fractions(F.pad(torch.cat([x.double(), y.double()], 1).T, (1, 0))))
    mask = torch.arange(x.shape[1]) % 2 == 0
    chosen = ea.where(mask, ev.from_float(x), ea.scale(ev.from_float(y[:, :1]), Fraction(1, 3)))
    thirds = [v / 3 for v in fractions(y[:, :1].expand_as(x))]
    expected = [
        p if m else q for p, q, m in zip(fractions(x), thirds, mask.repeat(3).tolist(), strict=True)
    ]
    assert_values(chosen, expected)


def test_products_of_products_grow_without_limit() -> None:
    x = wild(4, 3, seed=9)
    exact, values = ev.from_float(x), fractions(x)
    product, expected = exact, values
    for _ in range(4):
        product, expected = (
            ea.mul(product, exact),
            [p * v for p, v in zip(expected, values, strict=True)],
        )
    assert product.fractions() == expected


def test_quotient_of_each_element() -> None:
    top = torch.randint(0, 2**20, (4, 11), generator=generator())
    below = torch.randint(1, 2**45, (4, 11), generator=generator(1))
    x = Exact(top.unsqueeze(0), -3, quotient=below)
    pairs = zip(top.flatten().tolist(), below.flatten().tolist(), strict=True)
    expected = [Fraction(t, 8 * b) for t, b in pairs]
    assert_values(x, expected)
    turned = [expected[j * 11 + i] for i in range(11) for j in range(4)]
    assert_values(x.move(lambda t: t.T), turned)
    assert_values(ea.scale(x, Fraction(5, 7)), [v * Fraction(5, 7) for v in expected])
    once = [Fraction(torch.tensor(odd_rounding(v)).float().item()) for v in expected]
    assert_values(ea.add(x, x), [2 * v for v in once])


def test_wide_ties_round_once() -> None:
    """A tie of float32 that one bit 200 places lower breaks, on either side."""
    tie = torch.tensor([1 + 2.0**-24, 1 + 3 * 2.0**-24] * 2, dtype=torch.float64)
    below = torch.tensor([0.0, 0.0, 2.0**-149, -(2.0**-149)], dtype=torch.float64)
    total = ea.add(ev.from_float(tie), ea.scale(ev.from_float(below), Fraction(1, 2**50)))
    expected = [1.0, 1 + 2 * 2.0**-23, 1 + 2.0**-23, 1 + 2.0**-23]
    assert total.to_float32().tolist() == expected


def test_float32_boundary_saturates_and_keeps_specials() -> None:
    x = ev.from_float(torch.tensor([3e38, -3e38, math.inf, -math.inf, 0.0, -(2.0**-149)]))
    doubled = ea.add(x, x).to_float32().tolist()
    largest = torch.finfo(torch.float32).max
    assert doubled == [largest, -largest, math.inf, -math.inf, 0.0, -(2.0**-148)]
    small = ea.scale(x, Fraction(1, 8)).to_float32()
    assert small[5].item() == 0.0
    assert math.copysign(1, small[5].item()) == -1
    assert math.copysign(1, ea.neg(x).to_float32()[4].item()) == 1


def test_log_threshold_is_decided_below_float64() -> None:
    """Values that agree with sqrt(2) in 53 bits and lie on either side of it."""
    root = Fraction(math.isqrt(2 << 400), 1 << 200)
    signs = [1, -1]
    for power, sign in itertools.product([0, 17, -40], signs):
        near = [root * Fraction(2) ** power + Fraction(side, 2**150) for side in (-1, 1)]
        parts = [ea.scale(ev.constant(v), sign) for v in near]
        low, high = (abs(part.to_sticky_float64().item()) / 2.0**power for part in parts)
        assert Fraction(low) < root < Fraction(high)
        assert (low, high) == ((ev.SQRT2 - 1) / 2**52, ev.SQRT2 / 2**52)


SPECIAL = torch.tensor([math.inf, -math.inf, math.nan, 0.0, 1.5, -2.0])


@pytest.mark.parametrize("name", BINARY)
def test_specials_follow_ieee(name: str) -> None:
    torch_names = {"maximum": torch.maximum, "minimum": torch.minimum}
    function = BINARY[name][0]
    reference = torch_names.get(name) or getattr(torch, name)
    a, b = SPECIAL[:, None], SPECIAL[None, :]
    got = function(ev.from_float(a), ev.from_float(b)).to_float32()
    assert torch.equal(got.nan_to_num(7e9, 8e9, 9e9), reference(a, b).nan_to_num(7e9, 8e9, 9e9))


def test_specials_in_sums_products_and_moves() -> None:
    x = SPECIAL.repeat(3, 1)
    exact = ev.from_float(x)
    assert ea.linear(exact, exact).to_float32().isnan().all()
    rows = torch.tensor([[1.0, math.inf], [math.inf, -math.inf], [1.0, 2.0]])
    assert ea.sum_over(ev.from_float(rows), 1).to_float32().nan_to_num(7.0).tolist() == [
        torch.tensor(math.inf).nan_to_num(7.0).item(),
        7.0,
        3.0,
    ]
    relu = ea.relu(exact).to_float32()[0]
    assert relu[2].isnan()
    assert relu.nan_to_num(7.0, math.inf).tolist() == [math.inf, 0, 7.0, 0, 1.5, 0]
    masked = ea.where(x[0] > 0, exact, ev.constant(0)).to_float32()[0]
    assert masked.tolist() == [math.inf, 0, 0, 0, 1.5, 0]
    assert ea.absolute(exact).to_float32()[0, 1] == math.inf


def test_empty_tensors() -> None:
    empty = ev.from_float(torch.zeros(0, 4))
    assert ea.add(empty, empty).to_float32().shape == (0, 4)
    assert ea.linear(empty, ev.from_float(normal(3, 4))).to_float32().shape == (0, 3)
    zero = ea.matmul(ev.from_float(torch.zeros(2, 0)), ev.from_float(torch.zeros(0, 3)))
    assert zero.to_float32().tolist() == [[0.0] * 3] * 2


def test_a_zero_keeps_its_shape_in_a_wide_sum() -> None:
    tiny = ev.constant(Fraction(1, 2**300))
    total = ea.add(ea.add(ev.from_float(torch.zeros(3, 1)), tiny), ev.from_float(torch.ones(2)))
    assert total.shape == (3, 2)
    assert total.fractions() == [1 + Fraction(1, 2**300)] * 6


def test_random_expressions() -> None:
    """Random chains of all elementwise operations keep to the fractions."""
    choose = random.Random(0)
    for seed in range(20):
        makers = [SOURCES[choose.choice(["normal", "wild"])] for _ in range(4)]
        pool = [ev.from_float(make(6, seed=seed + i)) for i, make in enumerate(makers)]
        values = [x.fractions() for x in pool]
        for _ in range(4):
            name = choose.choice(list(BINARY))
            i, j = choose.randrange(4), choose.randrange(4)
            divisor = choose.choice([1, 3, 10, 49])
            pool[i] = ea.scale(BINARY[name][0](pool[i], pool[j]), Fraction(1, divisor))
            values[i] = [
                BINARY[name][1](p, q) / divisor for p, q in zip(values[i], values[j], strict=True)
            ]
        for x, expected in zip(pool, values, strict=True):
            assert x.fractions() == expected
