"""Convolutions, and the same convolutions as a product over patches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from quire.ops.base import Axis, Op, Operand, Shape, Target, register
from quire.ops.exact_arithmetic import conv
from quire.ops.exact_value import Exact, operand

aten = torch.ops.aten


def patches(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The inputs of every output of a convolution, zero-padded.

    x: (batch, channels, *size), any dtype. Returns (batch, groups, *output size, channels/groups,
    *kernel). The window of one output is the flattened last axes.
    """
    rank = len(kernel)
    out = torch.constant_pad_nd(x, _pads(kernel, padding, dilation))
    for axis, (width, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), 2):
        out = out.unfold(axis, gap * (width - 1) + 1, step)[..., ::gap]
    out = out.unflatten(1, (groups, -1))
    return out.movedim(2, 2 + rank)


def convolve_patches(windows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution whose `patches` are given.

    windows: as `patches` returns them. weight: (out, channels/groups, *kernel). bias: (out,).
    Returns (batch, out, *output size).
    """
    rank = weight.dim() - 2
    groups, size = windows.shape[1], windows.shape[2 : 2 + rank]
    rows = windows.flatten(2 + rank).flatten(2, 1 + rank)
    columns = weight.flatten(1).unflatten(0, (groups, -1)).transpose(1, 2)
    out = (rows @ columns).transpose(2, 3).flatten(1, 2).unflatten(2, size)
    return out if bias is None else out + bias.view(-1, *(1,) * rank)


def _pads(
    kernel: Sequence[int], padding: Sequence[int] | str, dilation: Sequence[int]
) -> list[int]:
    """Both paddings of every axis, the last axis first, as `torch.constant_pad_nd` takes them."""
    totals = [gap * (width - 1) for width, gap in zip(kernel, dilation, strict=True)]
    if padding == "same":
        pairs = [(total // 2, total - total // 2) for total in totals]
    elif padding == "valid":
        pairs = [(0, 0)] * len(totals)
    else:
        pairs = [(int(size), int(size)) for size in padding]
    return [size for pair in reversed(pairs) for size in pair]


def _window_axes(node: Node) -> Axis:
    """The last axes of `patches`: channels and kernel."""
    return tuple(range(-_rank(node) - 1, 0))


def _weight_axes(node: Node) -> Axis:
    return tuple(range(1, _rank(node) + 2))


def _rank(node: Node) -> int:
    weight = node.args[1]
    assert isinstance(weight, Node)
    return weight.meta["val"].dim() - 2


def _macs(output: Shape, inputs: Sequence[Shape]) -> int:
    return prod(output) * prod(inputs[1][1:])


_OPERANDS = (
    Operand("input", 0, "activation", _window_axes, is_operand=True),
    Operand("weight", 1, "activation", _weight_axes, is_operand=True, static=("weight", "weight")),
    Operand("bias", 2, "bias"),
)


def _exact(
    target: Target, x: Exact, weight: Exact, bias: Exact | None = None, *options: object
) -> Exact:
    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return target(x, weight, None, *options)

    return conv(convolved, operand(x), operand(weight), bias)


def _exact_patches(target: Target, x: Exact, *options: Any) -> Exact:
    return x.move(lambda t: patches(t, *options))


CONVOLUTION = register(
    Op(
        name="convolution",
        targets=(
            aten.conv1d.default,
            aten.conv1d.padding,
            aten.conv2d.default,
            aten.conv2d.padding,
            aten.conv3d.default,
            aten.conv3d.padding,
        ),
        operands=_OPERANDS,
        macs=_macs,
        exact=_exact,
    )
)
PATCHES = register(Op(name="patches", targets=(patches,), exact=_exact_patches))
CONVOLVE_PATCHES = register(
    Op(name="convolve_patches", targets=(convolve_patches,), operands=_OPERANDS, macs=_macs)
)
