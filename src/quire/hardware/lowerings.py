"""How each op becomes stages: functions from a lowering and a node to a value, by the op's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from quire.errors import HardwareError
from quire.graph.rewrite import arguments
from quire.hardware import cells
from quire.hardware.elementwise import negation, product, quotient, weighted_sum
from quire.hardware.linear import Weight, linear
from quire.hardware.lookup import Chain
from quire.hardware.names import identifier
from quire.hardware.nodes import check_axis, codes_of, layer_name, needs_format, sample_shape
from quire.hardware.stage import Net
from quire.hardware.stream import Codes, Integers
from quire.hardware.unroll import UNROLLED, check_whole_row, unrolled

if TYPE_CHECKING:
    from quire.hardware.lower import Lowering


def _linear(self: Lowering, node: Node) -> Net:
    source, weight, bias, *_ = (*arguments(node), None, None)
    assert isinstance(source, Node)
    assert isinstance(weight, Node)
    if weight not in self.statics:
        raise HardwareError("a product of two activations has no hardware: a weight is a constant")
    check_axis(weight)
    m_in, m_out = self.lanes_of(node)
    name = layer_name(node)
    if self.lanes[name] == "unroll":
        check_whole_row(codes_of(source), m_in)
    stream = self.stream(source, m_in)
    if not isinstance(stream.values, Codes):
        raise HardwareError(
            "its input has no format (fp32 is too wide to sum exactly): give the site "
            f"{node.meta['quire_path']}.input an entry"
        )
    blocks = stream.values.block_size
    number_format, tensor, encoded = self.statics.encoded(weight)
    matrix = Weight.of(tensor, number_format, encoded)
    biases = (
        self.statics.fractions(bias)
        if isinstance(bias, Node)
        else [Fraction(0)] * len(matrix.codes)
    )
    if self.lanes[name] == "unroll":
        return unrolled(
            self.builder(identifier(name), UNROLLED).read(stream),
            matrix,
            biases,
            nonnegative=self.nonnegative(source),
            levels=self.levels,
            max_accumulator=self.max_accumulator,
        )
    inner = [s for s in (blocks, matrix.block) if s and s < stream.row]
    illegal = [s for s in inner if s % m_in]
    if illegal:
        legal = [n for n in range(1, min(inner) + 1) if all(s % n == 0 for s in inner)]
        raise HardwareError(
            f"lanes=({m_in}, {m_out}): {m_in} lanes in do not lie within a block of {illegal[0]}; "
            f"legal are {', '.join(map(str, legal))}"
        )
    m_out = min(m_out, len(matrix.codes))
    input_major = self.input_major(stream)
    groups = -(-len(matrix.codes) // m_out)
    if input_major and groups > 1 and stream.row_beats > 1:
        stream = self.evened(stream, groups)
    builder = self.builder(identifier(name), "linear")
    return linear(
        builder.read(stream),
        matrix,
        biases,
        m_out,
        input_major,
        self.rom,
        self.max_accumulator,
    )


def _relu(self: Lowering, node: Node) -> Any:
    source = node.all_input_nodes[0]
    value = self.value(source)
    if isinstance(value, Chain):
        return replace(value, nodes=(*value.nodes, node))
    return cells.relu(self.open(source, identifier(node.meta["quire_path"]), "relu"))


def _same(self: Lowering, node: Node) -> Any:
    source = node.all_input_nodes[0]
    return self.open(source, identifier(node.meta["quire_path"]), "pass")


def _moved(self: Lowering, node: Node) -> Any:
    """Reshapes that keep the order of values within a sample."""
    shape = sample_shape(node)
    source = node.all_input_nodes[0]
    if node.target not in _IN_ORDER or prod(shape) != prod(sample_shape(source)):
        raise HardwareError(f"{node.target} moves values in an order that hardware does not")
    name = identifier(node.meta["quire_path"] or node.name)
    if isinstance(self.value(source), Chain):
        raise HardwareError(needs_format(source))
    net = self.open(source, name, "reshape")
    lanes, row = self.wanted(node, Integers(0, 0, 0), shape[-1]), net.shape[-1]
    beats, made = -(-row // net.lanes) * shape[-1], -(-shape[-1] // lanes) * row  # for all values
    if beats < made and row != shape[-1]:
        net = self.evened_net(net, -(-made // beats))
    return cells.reshaped(net, shape, lanes)


def _concatenation(self: Lowering, node: Node) -> Any:
    parts, axis, *_ = (*node.args, 0)
    assert isinstance(parts, list | tuple)
    shape = sample_shape(node)
    if axis not in (-1, len(shape)):
        raise HardwareError(f"concatenation along axis {axis} has no hardware: the last one has")
    nodes = [part for part in parts if isinstance(part, Node)]
    if any(part in self.statics for part in nodes):
        raise HardwareError("a concatenation with constants has no hardware")
    return self.concatenated(node, nodes)


_ATEN = torch.ops.aten
_IN_ORDER = frozenset(
    {
        _ATEN._reshape_alias.default,
        _ATEN._to_copy.default,
        _ATEN._unsafe_view.default,
        _ATEN.alias.default,
        _ATEN.clone.default,
        _ATEN.contiguous.default,
        _ATEN.detach.default,
        _ATEN.flatten.using_ints,
        _ATEN.reshape.default,
        _ATEN.squeeze.default,
        _ATEN.squeeze.dim,
        _ATEN.squeeze.dims,
        _ATEN.to.dtype,
        _ATEN.to.dtype_layout,
        _ATEN.unflatten.int,
        _ATEN.unsqueeze.default,
        _ATEN.view.default,
    }
)
"""Movements that keep the order of the values of a sample."""

_MOVEMENTS: dict[Any, Callable[[Lowering, Node], Any]] = {_ATEN.cat.default: _concatenation}


def _movement(self: Lowering, node: Node) -> Any:
    return _MOVEMENTS.get(node.target, _moved)(self, node)


LOWERINGS: dict[str, Callable[[Lowering, Node], Any]] = {
    "linear": _linear,
    "relu": _relu,
    "dropout": _same,
    "add": weighted_sum,
    "sub": weighted_sum,
    "rsub": weighted_sum,
    "neg": negation,
    "mul": product,
    "div": quotient,
    "movement": _movement,
}
"""How each op becomes stages, by its name; functions of one number are tables besides."""
