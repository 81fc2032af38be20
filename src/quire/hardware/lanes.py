"""The lanes of each linear layer: as given, or for a rate or a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nextafter, prod
from typing import Literal

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
) -> tuple[Lanes, Design]:
    """The lanes of every linear layer, and the design that has them.

    lanes: "unroll", {layer: (M_in, M_out) or "unroll"}, or "auto": those that meet `rate` samples a
    second at `clock` Hz most cheaply, or without a rate the fastest within `budget`,
    {"DSP", "LUT" or "BRAM": at most}. build: the design for lanes, whose figures are compared.
    Raises HardwareError for lanes that are not legal, and a rate or budget that cannot be met.
    """
    layers = layers_of(q)
    given = _given(lanes, {layer.name: layer for layer in layers})
    if lanes == "auto" and budget and rate is None:
        return lanes_within(layers, budget, build)
    # Who chooses lanes for some layers and no rate takes the interval that they give.
    promised = rate is not None or lanes == "auto"
    missing = [layer for layer in layers if layer.name not in given]
    wanted = clock / (rate or RATE) * (1 + 1e-12)  # so that clock / 3 leaves three cycles

    def at(cycles: int) -> tuple[Lanes, Design]:
        found: Lanes = {**given, **for_interval(missing, cycles)}
        return found, build(found)

    found, design = _fastest_enough(at, missing, wanted, promised)
    if (promised and design.interval > wanted) or not _reach(missing, wanted):
        raise HardwareError(_missed(design, rate, clock))
    excess = _excess(design, budget)
    if excess:
        raise HardwareError(
            f"the budget is not met: {excess}; raise it, lower the rate, or give fewer lanes"
        )
    return found, design


def _reach(layers: Sequence[Layer], cycles: float) -> bool:
    return all(layer.fastest <= cycles for layer in layers)


def _fastest_enough(
    at: Callable[[int], tuple[Lanes, Design]],
    layers: Sequence[Layer],
    wanted: float,
    promised: bool,
) -> tuple[Lanes, Design]:
    """The cheapest lanes with which the whole design takes at most `wanted` cycles a sample, else
    the fastest: a stage between layers may take longer than each of them.

    at: lanes and design where no layer takes more cycles.
    """
    low = max([layer.fastest for layer in layers], default=1)
    slowest = max([layer.interval(1, 1) for layer in layers], default=1)
    high = max(low, int(min(wanted, slowest)))
    best = at(high)
    if best[1].interval <= wanted or not promised or high == low:
        return best
    best = at(low)
    while best[1].interval <= wanted and low + 1 < high:
        middle = (low + high) // 2
        found = at(middle)
        if found[1].interval <= wanted:
            low, best = middle, found
        else:
            high = middle
    return best


def _missed(design: Design, rate: float | None, clock: float) -> str:
    whole = int(clock / design.interval)  # rounded down, so that what is advised is reached
    reached = whole or repr(nextafter(clock / design.interval, 0))
    asked = f"rate={rate or RATE:.15g}{'' if rate else ' (the default)'}"
    return (
        f"{asked} at clock={clock:.15g} leaves {clock / (rate or RATE):.6g} cycles a sample, and "
        f"{design.bottleneck} takes {design.interval}: give rate={reached} at most"
    )


def _given(lanes: object, layers: Mapping[str, Layer]) -> Lanes:
    """The lanes that a user chose, checked."""
    if isinstance(lanes, Mapping):
        return {name: _checked(name, pair, layers) for name, pair in lanes.items()}
    if lanes == "unroll":
        return dict.fromkeys(layers, "unroll")
    if lanes != "auto":
        raise HardwareError(
            f"lanes={lanes!r}: give 'auto', 'unroll' or {{layer: (M_in, M_out) or 'unroll'}}"
        )
    return {}


def _checked(
    name: object, pair: object, layers: Mapping[str, Layer]
) -> tuple[int, int] | Literal["unroll"]:
    layer = layers.get(name) if isinstance(name, str) else None
    if layer is None:
        raise HardwareError(f"lanes names {name!r}: the layers are {', '.join(layers)}")
    if pair == "unroll":
        return "unroll"
    match pair:
        case [int() as m_in, int() as m_out] if m_in in layer.lanes_in and 1 <= m_out <= layer.n:
            return m_in, m_out
        case _:
            raise HardwareError(
                f"lanes of {name} are {pair!r}: give 'unroll' or (M_in, M_out), where M_in is "
                f"{_listed(layer.lanes_in)} and M_out 1 to {layer.n}"
            )


def _listed(numbers: Sequence[int]) -> str:
    whole = numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 2
    return f"1 to {numbers[-1]}" if whole else f"one of {', '.join(map(str, numbers))}"


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
) -> tuple[Lanes, Design]:
    """The lanes of the fastest design within a budget, by bisection of its interval; the design.

    layers: those of the network. budget: {"DSP", "LUT" or "BRAM": at most}. build: the design for
    lanes. Resources fall as the interval grows, but for a few lookup tables of control; so the
    result fits, and one cycle less may fit too. Raises HardwareError where the smallest design
    does not fit, with what it takes.
    """
    low = max([layer.fastest for layer in layers], default=1)
    high = max([layer.interval(1, 1) for layer in layers], default=1)
    lanes = for_interval(layers, high)
    best = lanes, build(lanes)
    excess = _excess(best[1], budget)
    if excess:
        raise HardwareError(
            f"the budget cannot be met: with one product a cycle in each layer {excess}; "
            "raise it, or take narrower formats"
        )
    while low < high:
        middle = (low + high) // 2
        lanes = for_interval(layers, middle)
        design = build(lanes)
        if _excess(design, budget):
            low = middle + 1
        else:
            high, best = middle, (lanes, design)
    return best


def _excess(design: Design, budget: Mapping[str, int]) -> str:
    """What a design takes more than it may; "" where it fits."""
    used = total(estimate(design).values())
    over = [(name, getattr(used, name), most) for name, most in budget.items()]
    return ", ".join(
        f"{name} is {have}, at most {most}" for name, have, most in over if have > most
    )
