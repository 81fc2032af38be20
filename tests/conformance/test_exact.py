"""Every exact meaning against float64, and every format's cast of exact values."""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from quire.formats import presets
from quire.formats.base import Scalar
from quire.ops import all_ops, op_for_target
from quire.ops.convolution import convolve_patches, patches
from quire.ops.exact_arithmetic import add, combine
from quire.ops.exact_value import Exact, constant, from_float
from quire.ops.mask import causal_mask, keep_masked
from quire.precision.exact import enter, evaluate, exact_cast

aten = torch.ops.aten


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def index(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(0))


X = randn(4, 6)
Y = randn(4, 6, seed=1)
IMAGE = randn(2, 4, 9, 8)
LINE = randn(2, 4, 9)
HIDDEN = Y > 0.5

# Calls of the ops that have an exact meaning; of those that are not here, `plain_call` makes one.
CALLS: dict[Any, list[tuple[Any, ...]]] = {
    aten.linear.default: [(X, randn(5, 6)), (X, randn(5, 6), randn(5))],
    aten.addmm.default: [(randn(5), X, randn(6, 5))],
    aten.baddbmm.default: [(randn(2, 3, 5), randn(2, 3, 4), randn(2, 4, 5))],
    aten.matmul.default: [(X, randn(6, 3)), (randn(2, 1, 3, 6), randn(5, 6, 2)), (X, randn(6))],
    aten.mm.default: [(X, randn(6, 3))],
    aten.bmm.default: [(randn(2, 3, 4), randn(2, 4, 5))],
    aten.mv.default: [(X, randn(6))],
    aten.dot.default: [(randn(6), randn(6, seed=1))],
    aten.conv1d.default: [(LINE, randn(6, 4, 3), randn(6), [2], [1])],
    aten.conv1d.padding: [(LINE, randn(6, 4, 3), None, [1], "same")],
    aten.conv2d.default: [(IMAGE, randn(6, 2, 3, 2), randn(6), [2, 1], [1, 0], [1, 2], 2)],
    aten.conv2d.padding: [(IMAGE, randn(6, 4, 3, 3), randn(6), [1, 1], "same")],
    aten.conv3d.default: [(randn(2, 3, 4, 5, 4), randn(2, 3, 2, 2, 2), randn(2))],
    aten.conv3d.padding: [(randn(2, 3, 4, 5, 4), randn(2, 3, 2, 2, 2), None, [1, 1, 1], "valid")],
    patches: [(IMAGE, (3, 2), (2, 1), (1, 0), (1, 2), 2)],
    convolve_patches: [(randn(2, 2, 4, 3, 2, 3, 2), randn(6, 2, 3, 2), randn(6))],
    aten.add.Tensor: [(X, Y), (X, 0.125), (X, index(9, 6)), (X, randn(1, 6))],
    aten.add.Scalar: [(X, 0.125)],
    aten.sub.Tensor: [(X, Y), (X, 0.125)],
    aten.sub.Scalar: [(X, 0.125)],
    aten.rsub.Tensor: [(X, Y)],
    aten.rsub.Scalar: [(X, 1.0)],
    aten.mul.Tensor: [(X, Y), (X, 0.125), (X, 3)],
    aten.mul.Scalar: [(X, 0.125)],
    aten.div.Tensor: [(X, Y), (X, 7.0)],
    aten.div.Scalar: [(X, 0.375)],
    aten.maximum.default: [(X, Y)],
    aten.minimum.default: [(X, Y)],
    aten.neg.default: [(X,)],
    aten.abs.default: [(X,)],
    nn.Dropout: [(X,)],
    aten.embedding.default: [(X, index(4, 2, 3))],
    causal_mask: [(randn(2, 5, 5),)],
    keep_masked: [(X, 8192.0 * Y, -4096.0)],
    aten.where.self: [(HIDDEN, X, Y)],
    aten.where.ScalarOther: [(HIDDEN, X, -math.inf)],
    aten.where.ScalarSelf: [(HIDDEN, 0.0, X)],
    aten.masked_fill.Scalar: [(X, HIDDEN, -math.inf)],
    aten.masked_fill.Tensor: [(X, HIDDEN, torch.tensor(2.0))],
    aten.layer_norm.default: [(X, [6], randn(6), randn(6)), (X, [4, 6])],
    aten.rms_norm.default: [(X, [6], randn(6), 1e-6)],
    aten.softmax.int: [(X, -1)],
    aten._softmax.default: [(X, 0, False)],
    aten._safe_softmax.default: [(X, -1)],
    aten.max_pool1d.default: [(LINE, [3], [2], [1]), (LINE, [2])],
    aten.max_pool2d.default: [
        (IMAGE, [3, 2], [2, 1], [1, 1], [1, 2]),
        (IMAGE, [2, 2]),
        (IMAGE, [3, 3], [2, 2], [0, 0], [1, 1], True),
    ],
    aten.adaptive_max_pool1d.default: [(LINE, [4])],
    aten.adaptive_max_pool2d.default: [(IMAGE, [3, 4])],
    aten.avg_pool1d.default: [(LINE, [3], [2], [1]), (LINE, [3], [2], [1], False, False)],
    aten.avg_pool2d.default: [
        (IMAGE, [3, 3]),
        (IMAGE, [3, 2], [2, 1], [1, 1]),
        (IMAGE, [3, 3], [2, 2], [1, 1], True, False),
    ],
    aten.adaptive_avg_pool1d.default: [(LINE, [3]), (LINE, [4])],
    aten.adaptive_avg_pool2d.default: [(IMAGE, [1, 1]), (IMAGE, [4, 3])],
    aten.mean.default: [(IMAGE,)],
    aten.mean.dim: [(IMAGE, [-1, -2]), (X, [1], True)],
    aten.sum.default: [(IMAGE,)],
    aten.sum.dim_IntList: [(IMAGE, [1]), (X, [0], True)],
    aten.relu.default: [(X,)],
    aten.relu6.default: [(4 * X,)],
    aten.hardtanh.default: [(X,), (X, -0.5, 0.25)],
    aten.clamp.default: [(X, -0.5, 0.25), (X, None, 0.5)],
    aten.clamp_min.default: [(X, 0.125)],
    aten.clamp_max.default: [(X, 0.125)],
    aten.elu.default: [(X,), (X, 0.5)],
    aten.softplus.default: [(8 * X,), (X, 2, 1)],
    aten.leaky_relu.default: [(X,), (X, 0.25)],
    aten.log.default: [(X.abs(),)],
    aten.sqrt.default: [(X.abs(),)],
    aten.rsqrt.default: [(X.abs(),)],
    aten.pow.Tensor_Scalar: [(X, 2), (X, 3.0)],
    "movement": [
        (aten._reshape_alias.default, X, [3, 8], [8, 1]),
        (aten._to_copy.default, X),
        (aten._unsafe_view.default, X, [3, 8]),
        (aten.alias.default, X),
        (aten.as_strided.default, X, [2, 3], [1, 2]),
        (aten.cat.default, [X, 1e-9 * Y, X[:, :2]], 1),
        (aten.chunk.default, X, 3, 1),
        (aten.clone.default, X),
        (aten.constant_pad_nd.default, X, [1, 0, 2, 1]),
        (aten.constant_pad_nd.default, X, [1, 0], -math.inf),
        (aten.contiguous.default, X.T),
        (aten.detach.default, X),
        (aten.expand.default, X, [3, 4, 6]),
        (aten.flatten.using_ints, IMAGE, 1),
        (aten.flip.default, X, [1]),
        (aten.gather.default, X, 1, index(6, 4, 3)),
        (aten.index.Tensor, X, [index(4, 3), None]),
        (aten.index_select.default, X, 1, index(6, 3)),
        (aten.lift_fresh_copy.default, X),
        (aten.movedim.int, IMAGE, 1, 3),
        (aten.narrow.default, X, 1, 2, 3),
        (aten.permute.default, IMAGE, [0, 2, 3, 1]),
        (aten.pixel_shuffle.default, IMAGE, 2),
        (aten.pixel_unshuffle.default, IMAGE[..., :8, :], 2),
        (aten.repeat.default, X, [2, 1]),
        (aten.repeat_interleave.self_int, X, 2, 0),
        (aten.reshape.default, X, [8, 3]),
        (aten.roll.default, X, [2], [1]),
        (aten.select.int, X, 0, 2),
        (aten.slice.Tensor, X, 1, 1, 5, 2),
        (aten.split.Tensor, X, 4, 1),
        (aten.split_with_sizes.default, X, [1, 5], 1),
        (aten.squeeze.default, X[:1]),
        (aten.squeeze.dim, X[:1], 0),
        (aten.squeeze.dims, X[:1], [0]),
        (aten.stack.default, [X, Y], 1),
        (aten.t.default, X),
        (aten.to.dtype, X, torch.float32),
        (aten.to.dtype_layout, X),
        (aten.transpose.int, X, 0, 1),
        (aten.tril.default, X),
        (aten.triu.default, X, 1),
        (aten.unbind.int, X, 0),
        (aten.unflatten.int, X, 1, [2, 3]),
        (aten.unfold.default, X, 1, 3, 2),
        (aten.unsqueeze.default, X, 1),
        (aten.view.default, X, [3, 8]),
    ],
}
MOVES: list[tuple[Any, ...]] = CALLS.pop("movement")
EXACT_OPS = [op for op in all_ops() if op.exact is not None]


def plain_call(target: Any) -> tuple[Any, ...] | None:
    """A call of a target whose required arguments are tensors and numbers, else None."""
    values: dict[str, list[Any]] = {"Tensor": [X, Y, randn(4, 6, seed=2)], "number": [0.375, 2.5]}
    arguments: list[Any] = []
    for argument in [a for a in target._schema.arguments if not a.has_default_value()]:
        pool = values.get(str(argument.type))
        if not pool:
            return None
        arguments.append(pool.pop(0))
    return tuple(arguments)


MOVED = [move[0] for move in MOVES]
for target in [target for op in EXACT_OPS for target in op.targets]:
    if target not in CALLS and target not in MOVED and hasattr(target, "_schema"):
        call = plain_call(target)
        CALLS |= {target: [call]} if call else {}


def in_float64(target: Any, args: Any) -> Any:
    wide = pytree.tree_map(
        lambda v: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v, args
    )
    function = target().eval() if target is nn.Dropout else target
    return function(*wide)


def exactly(target: Any, args: Any) -> Any:
    function = target().eval() if target is nn.Dropout else target
    return evaluate(op_for_target(target), function, pytree.tree_map(enter, args), {})


def leaves(tree: Any) -> list[Any]:
    return pytree.tree_leaves(tree)


def named(target: object) -> str:
    """A name that is the same in every process."""
    return getattr(target, "__name__", str(target))


@pytest.mark.parametrize("op", EXACT_OPS, ids=lambda op: op.name)
def test_every_target_has_a_call_here(op: Any) -> None:
    """One whose arguments are more than tensors and numbers needs a line in the tables above."""
    known = {*CALLS, *(move[0] for move in MOVES)}
    assert set(op.targets) - known == {operator.getitem} & set(op.targets)


@pytest.mark.parametrize("target", CALLS, ids=named)
def test_meaning_agrees_with_float64(target: Any) -> None:
    for args in CALLS[target]:
        got, expected = leaves(exactly(target, args)), leaves(in_float64(target, args))
        assert len(got) == len(expected)
        for value, reference in zip(got, expected, strict=True):
            result = value.to_float32() if isinstance(value, Exact) else value
            torch.testing.assert_close(
                result.double(), reference.double(), rtol=2.0**-23, atol=2.0**-40, equal_nan=True
            )


@pytest.mark.parametrize("move", MOVES, ids=lambda move: named(move[0]))
def test_movement_is_bitwise(move: Any) -> None:
    target, *args = move
    got, expected = leaves(exactly(target, args)), leaves(target(*args))
    assert len(got) == len(expected)
    for value, reference in zip(got, expected, strict=True):
        assert value.to_float32().equal(reference)


NAMES = sorted(name for name in presets if name != "fp32")


def spread(seed: int) -> Tensor:
    x = randn(8, 70, seed=seed) * torch.exp2(randn(8, 70, seed=seed + 1) * 6)
    return torch.cat([x, torch.zeros(8, 3), -x[:, :5] * 2.0**-100], 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_cast_of_fp32_numbers_is_quantize(name: str, axis: int) -> None:
    x = spread(3)
    expected = presets[name].quantize(x, axis)
    got = exact_cast(from_float(x), str(presets[name]), axis)
    assert got.to_float32().equal(torch.where(expected == 0, 0.0, expected))
    assert got.origin is not None
    zeros = torch.where(x == 0, False, expected.signbit())
    assert got.origin.emitted.signbit().equal(zeros)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if isinstance(presets[n], Scalar) and presets[n].bits <= 8]
)
def test_cast_decides_ties_by_the_smallest_bit(name: str) -> None:
    """Midpoints of neighbouring values, and the same moved by 2^-300: one rounding each."""
    format = presets[name]
    values = format.values()
    values = values[values.isfinite()]
    middle = from_float((values[1:] + values[:-1]) / 2)
    tiny = constant(Fraction(1, 2**300))
    cases: list[tuple[Exact, Callable[[], Tensor]]] = [
        (add(middle, tiny), lambda: values[1:]),
        (add(middle, constant(Fraction(-1, 2**300))), lambda: values[:-1]),
    ]
    for value, expected in cases:
        assert exact_cast(value, name).to_sticky_float64().equal(expected() + 0.0)
    even = format.quantize((values[1:] + values[:-1]) / 2)
    assert exact_cast(middle, name).to_sticky_float64().equal(even + 0.0)


@pytest.mark.parametrize("format", ["log(8)", "log(5)", "bl(4)", "bl(8)"])
def test_log_rounds_at_the_root_of_two(format: str) -> None:
    """Beside a maximum of 4, what is 2^-190 below or above the root goes to 1 or 2."""
    root = Fraction(math.isqrt(2 << 400), 1 << 200)
    for side, expected in ((-1, 1.0), (1, 2.0)):
        near = add(constant(root + Fraction(side, 2**190)), from_float(torch.zeros(1)))
        pair = combine(torch.cat, [from_float(torch.tensor([4.0])), near])
        assert exact_cast(pair, format).to_sticky_float64().tolist() == [4.0, expected]
