"""Functions of one number as tables: every code of the input, through `exact`, to a code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from quire.hardware.design import Memory
from quire.hardware.stage import LOGIC_ROM_BITS, Net
from quire.hardware.statics import cast_arguments
from quire.hardware.stream import Codes
from quire.hardware.timing import Step
from quire.ops import op_for_target
from quire.ops.exact_value import Exact, Origin, from_float
from quire.precision.exact import evaluate, exact_cast
from quire.precision.settings import SETTINGS

WIDEST_TABLE = 16
"""Bits of the widest code that addresses a table."""


@dataclass(frozen=True)
class Chain:
    """Functions of one number after a net of codes, until a cast says what they become."""

    net: Net
    nodes: tuple[Node, ...]


def lookup(chain: Chain, codes: Codes, cast_node: Node) -> Net:
    """The net behind a table of the chain's functions and a cast to a scalar format."""
    net = chain.net
    assert isinstance(net.values, Codes)
    _, number_format, _, scale = cast_arguments(cast_node)
    emitted = exact_cast(_results(chain), number_format, -1, scale)
    assert emitted.origin is not None
    words = codes.element.codes_of(emitted.origin.emitted.nan_to_num(0, 0, 0)).tolist()
    style = "block" if codes.bits * len(words) > LOGIC_ROM_BITS else "logic"
    builder = net.builder
    name = f"{builder.name}__table"
    before = sum(memory.name.startswith(name) for memory in builder.memories)
    memory = Memory(f"{name}_{before + 1}" if before else name, codes.bits, tuple(words), style)
    builder.memories.append(memory)
    valid, ready, data = net.stepped("table", net.lanes * codes.bits)
    builder.steps.append(Step("delay", (2,)))
    builder.clocked(
        "quire_lookup",
        {
            "LANES": net.lanes,
            "IN_BITS": net.values.bits,
            "OUT_BITS": codes.bits,
            "BLOCK": int(style == "block"),
            "FILE": f'"{memory.file}"',
        },
        {
            "in_valid_i": net.valid,
            "in_ready_o": net.ready,
            "in_data_i": net.data,
            "out_valid_o": valid,
            "out_ready_i": ready,
            "out_data_o": data,
        },
    )
    return replace(net, values=codes, valid=valid, ready=ready, data=data)


def _results(chain: Chain) -> Exact:
    """The chain's functions of the value of every code."""
    assert isinstance(chain.net.values, Codes)
    element = chain.net.values.element
    inputs = element.values_of(torch.arange(2**element.bits)).double()
    inputs = torch.where(inputs.isfinite(), inputs, 0.0) + 0.0
    value: Any = replace(from_float(inputs), origin=Origin(element, inputs))
    source = chain.nodes[0].all_input_nodes[0]
    for node in chain.nodes:
        assert callable(node.target)
        arguments = [value if a is source else a for a in node.args]
        options = {**node.kwargs, **node.meta.get(SETTINGS, {})}
        value = evaluate(op_for_target(node.target), node.target, arguments, options)
        source = node
    return value
