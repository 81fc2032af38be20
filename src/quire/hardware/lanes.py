"""The lanes of each linear layer: as given, or for a rate or a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from torch.fx import GraphModule, Node

from quire.errors import HardwareError
from quire.formats import Block
from quire.graph.rewrite import arguments
from quire.graph.types import type_of
from quire.hardware.cost import estimate, total
from quire.hardware.design import Design
from quire.hardware.nodes import codes_of, layer_name, linear_nodes
from quire.hardware.schedule import Lanes, Layer, for_interval

RATE = 1e6
"""Samples a second that "auto" meets where neither a rate nor a budget is given."""


def lanes_for(
    q: GraphModule,
    lanes: str | Lanes,
    rate: float | None,
    clock: float,
    budget: Mapping[str, int],
    build: Callable[[Lanes], Design],
) -> Lanes:
    """The lanes of every linear layer.

    lanes: "unroll", {layer: (M_in, M_out) or "unroll"}, or "auto": those that meet `rate` samples a
    second at `clock` Hz most cheaply, or without a rate the fastest within `budget`,
    {"DSP", "LUT" or "BRAM": at most}. build: the design for lanes, whose estimate is compared.
    Raises HardwareError for lanes that are not legal, and a rate or budget that cannot be met.
    """
    layers = {layer.name: layer for layer in layers_of(q)}
    if lanes == "unroll":
        return dict.fromkeys(layers, "unroll")
    if isinstance(lanes, str):
        if lanes != "auto":
            raise HardwareError(
                f"lanes={lanes!r}: give 'auto', 'unroll' or {{layer: (M_in, M_out) or 'unroll'}}"
            )
        if budget and rate is None:
            return lanes_within(list(layers.values()), budget, build)
        lanes = {}
    found = _with_the_rest(lanes, layers, max(1, int(clock / (rate or RATE))))
    excess = _excess(build(found), budget) if budget else ""
    if excess:
        raise HardwareError(f"the budget is not met: {excess}; raise it, or lower the rate")
    return found


def _with_the_rest(lanes: Lanes, layers: Mapping[str, Layer], cycles: int) -> Lanes:
    """Given lanes, checked, and for the other layers those that meet an interval."""
    for name, pair in lanes.items():
        if name not in layers:
            raise HardwareError(f"lanes names {name!r}: the layers are {', '.join(layers)}")
        if pair != "unroll":
            _check(layers[name], *pair)
    missing = [layer for name, layer in layers.items() if name not in lanes]
    return dict(lanes) | for_interval(missing, cycles)


def _check(layer: Layer, m_in: int, m_out: int) -> None:
    if m_in not in layer.lanes_in or not 1 <= m_out <= layer.n:
        raise HardwareError(
            f"lanes of {layer.name} are ({m_in}, {m_out}): M_in is one of "
            f"{', '.join(map(str, layer.lanes_in))}, M_out 1 to {layer.n}"
        )


def layers_of(q: GraphModule) -> list[Layer]:
    """The linear layers of a graph as the scheduler sees them."""
    layers: list[Layer] = []
    for node in linear_nodes(q):
        source, weight, *_ = arguments(node)
        shapes = [type_of(n) for n in (source, weight)]
        x, w = ([1] if found is None else list(found.example) for found in shapes)
        sizes = [codes_of(n).block_size or _weight_block(n) for n in (source, weight)]
        blocks = tuple(size for size in sizes if size is not None)
        layers.append(Layer(layer_name(node), prod(x[1:-1]), w[1], w[0], blocks))
    return layers


def _weight_block(node: Node) -> int | None:
    found = codes_of(node).format
    size = found.size if isinstance(found, Block) else None
    return size if isinstance(size, int) else None


def lanes_within(
    layers: list[Layer], budget: Mapping[str, int], build: Callable[[Lanes], Design]
) -> Lanes:
    """The lanes of the fastest design within a budget, by bisection of its interval.

    layers: those of the network. budget: {"DSP", "LUT" or "BRAM": at most}. build: the design for
    lanes. Resources fall as the interval grows, but for a few lookup tables of control; so the
    result fits, and one cycle less may fit too. Raises HardwareError where the smallest design
    does not fit, with what it takes.
    """
    slowest = max(layer.interval(1, 1) for layer in layers)
    low, high = max(layer.fastest for layer in layers), slowest
    excess = _excess(build(for_interval(layers, high)), budget)
    if excess:
        raise HardwareError(
            f"the budget cannot be met: with one product a cycle in each layer {excess}; "
            "raise it, or take narrower formats"
        )
    while low < high:
        middle = (low + high) // 2
        if _excess(build(for_interval(layers, middle)), budget):
            low = middle + 1
        else:
            high = middle
    return for_interval(layers, high)


def _excess(design: Design, budget: Mapping[str, int]) -> str:
    """What a design takes more than it may; "" where it fits."""
    used = total(estimate(design).values())
    over = [(name, getattr(used, name), most) for name, most in budget.items()]
    return ", ".join(
        f"{name} is {have}, at most {most}" for name, have, most in over if have > most
    )
