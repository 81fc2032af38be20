"""An unrolled linear layer: weights as constants in logic, a row of inputs each cycle.

The product is a graph of adders (`adders.py`) with a register after every few of them; the bias is
added last. Everything is exact: each value has the bits of its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import numpy as np

from quire.errors import HardwareError
from quire.hardware import cells
from quire.hardware.adders import Adder, AdderGraph, Integer, Term, solve
from quire.hardware.design import Wire
from quire.hardware.linear import MAX_ACCUMULATOR, Weight
from quire.hardware.stage import Net, part
from quire.hardware.stream import Codes, Integers, odd_part
from quire.hardware.timing import Step

LEVELS = 8
"""Adders in a row between two registers."""

UNROLLED = "unrolled"
"""The kind of a stage with an unrolled layer. ready passes it in one gate for each register."""


@dataclass(frozen=True)
class Vector:
    """An expression of `bits` bits for integers from `low` to `high`; unsigned where low >= 0."""

    data: str
    low: int
    high: int

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def bits(self) -> int:
        """Bits of the expression; 1 at least."""
        return max(1, max(self.high, -self.low - 1).bit_length() + self.signed)

    def from_bit(self, first: int, bits: int) -> str:
        """`bits` bits from bit `first` on, with zeros or copies of the sign above the vector."""
        kept = min(bits, max(0, self.bits - first))
        if kept == bits:
            return part(self.data, first, bits)
        more = bits - kept
        fill = f"{{{more}{{{self.data}[{self.bits - 1}]}}}}" if self.signed else f"{more}'d0"
        return f"{{{fill}, {part(self.data, first, kept)}}}" if kept else fill


def check_whole_row(values: Codes, row: int) -> None:
    """HardwareError unless a row of these values is one beat."""
    if values.block_size is not None and values.block_size < row:
        raise HardwareError(
            f"an unrolled layer takes a row of {row} values in one beat, and blocks of {values} "
            f"are shorter: take blocks of {row} or more, or lanes (M_in, M_out) for this layer"
        )


def unrolled(
    net: Net,
    weight: Weight,
    bias: Sequence[Fraction],
    *,
    nonnegative: bool = False,
    levels: int = LEVELS,
    solver: str = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
) -> Net:
    """x W^T + bias for each row of a net, a row a cycle.

    The net's lanes are a whole row. nonnegative: whether no x is below zero. levels: adders in a
    row between two registers. solver: of `adders.solve`. Raises HardwareError where the sums would
    be too wide.
    """
    b = net.builder
    n, k = weight.codes.shape
    assert net.lanes == k
    net = cells.to_integers(net)
    values = net.values
    assert isinstance(values, Integers)
    matrix, exponent = constants(weight)
    offsets, finer = _biases(bias, exponent + values.exponent)
    matrix = matrix * (1 << finer)
    low = 0 if nonnegative else values.low
    total = _range(matrix, low, values.high, offsets, exponent + values.exponent - finer)
    if total.bits > max_accumulator:
        raise HardwareError(
            f"{b.name}: an exact sum of its products needs {total.bits} bits, and "
            f"{max_accumulator} are allowed (max_accumulator); plan.for_hardware(graph, data) "
            "bounds the scales of activations, and a format with fewer exponents is narrower"
        )
    graph = solve(matrix, [(low, values.high)] * k, solver)
    logic = _Logic(net, graph, (low, values.high), levels)
    data = logic.outputs(offsets, total)
    b.interval = prod(net.shape[:-1])
    b.detail = (
        f"{n} x {k}, unrolled: {len(graph.adders)} adders ({graph.solver}), "
        f"{graph.depth} in a row, sums of {total.bits} bits"
    )
    return replace(logic.net, shape=(*net.shape[:-1], n), lanes=n, values=total, data=data)


def constants(weight: Weight) -> tuple[Integer, int]:
    """A weight as integers (N, K) in units of 2^exponent, its scales included."""
    columns = weight.values.shape[1]
    block = np.minimum(np.arange(columns) // weight.block, weight.scales.shape[1] - 1)
    exact = weight.values * weight.scales[:, block]
    exponents = [odd_part(abs(w))[1] for w in exact.flatten() if w]
    lowest = min(exponents, default=0)
    step = Fraction(2) ** lowest
    integers = [int(w / step) for w in exact.flatten()]
    return np.array(integers, dtype=object).reshape(exact.shape), lowest + weight.exponent


def _biases(bias: Sequence[Fraction], exponent: int) -> tuple[list[int], int]:
    """The biases as integers, and by how many bits their grid is finer than 2^exponent."""
    lowest = min((odd_part(abs(v))[1] for v in bias if v), default=exponent)
    grid = min(exponent, lowest)
    return [int(v / Fraction(2) ** grid) for v in bias], exponent - grid


def _range(matrix: Integer, low: int, high: int, offsets: list[int], exponent: int) -> Integers:
    """The interval of the sums, bias included."""
    offset = np.array(offsets, dtype=object)
    lowest, highest = _interval(matrix, low, high)
    return Integers(
        min(0, *(lowest + offset).tolist()), max(0, *(highest + offset).tolist()), exponent
    )


def _interval(rows: Integer, low: int, high: int) -> tuple[Integer, Integer]:
    """The lowest and highest sums of rows (..., K) of weights for inputs from low to high."""
    positive, negative = np.where(rows > 0, rows, 0).sum(-1), np.where(rows < 0, rows, 0).sum(-1)
    return positive * low + negative * high, positive * high + negative * low


class _Logic:
    """Writes the adders of a graph as wires, with registers between those of different stages."""

    def __init__(self, net: Net, graph: AdderGraph, interval: tuple[int, int], levels: int) -> None:
        self.net = net
        self.graph = graph
        self.vectors: dict[int, Vector] = {}
        self.cut: dict[str, None] = {}
        """Wires of which a reader leaves out bits, or that have no reader, so that lint knows."""
        self.read = {term.value for term in graph.outputs if term}
        self.read |= {value for a in graph.adders for value in (a.left, a.right)}
        lows, highs = _interval(np.array(graph.rows, dtype=object), *interval)
        self.lows = [int(v) for v in lows]
        self.highs = [int(v) for v in highs]
        self.stages = -(-(graph.depth + 1) // levels)  # the bias is an adder too
        self.levels = -(-(graph.depth + 1) // self.stages)
        assert isinstance(net.values, Integers)
        bits = net.values.bits
        for i in range(graph.inputs):
            own = self._vector(i, "")
            name = self._wire(f"x{i}", own.bits, part(net.data, i * bits, own.bits))
            self._made(i, replace(own, data=name))
            if own.bits < bits:
                self.cut[net.data] = None
        self._build()

    def _build(self) -> None:
        """All adders, stage by stage, and the registers between them."""
        stages = [self._stage(depth) for depth in self.graph.depths]
        for stage in range(self.stages):
            if stage:
                self._register(self._crossing(stages, stage), stage)
            for i, adder in enumerate(self.graph.adders, self.graph.inputs):
                if stages[i] == stage:
                    own = self._vector(i, "")
                    name = self._wire(f"a{i}", own.bits, self._sum(adder, own.bits))
                    self._made(i, replace(own, data=name))

    def _made(self, value: int, vector: Vector) -> None:
        self.vectors[value] = vector
        if value not in self.read:
            self.cut[vector.data] = None

    def _stage(self, depth: int) -> int:
        """The stage of an adder: the inputs are in the first."""
        return max(0, depth - 1) // self.levels

    def _crossing(self, stages: Sequence[int], stage: int) -> list[int]:
        """Values made before a stage and read in it or later."""
        read = {term.value for term in self.graph.outputs if term}
        for i, adder in enumerate(self.graph.adders, self.graph.inputs):
            if stages[i] >= stage:
                read |= {adder.left, adder.right}
        return sorted(i for i in read if stages[i] < stage)

    def _register(self, crossing: Sequence[int], stage: int) -> None:
        b, bits = self.net.builder, [self.vectors[i].bits for i in crossing]
        before = "{" + ", ".join(self.vectors[i].data for i in reversed(crossing)) + "}"
        valid, ready, data = self.net.stepped(f"level{stage}", sum(bits))
        ports = {
            "in_valid_i": self.net.valid,
            "in_ready_o": self.net.ready,
            "in_data_i": before,
            "out_valid_o": valid,
            "out_ready_i": ready,
            "out_data_o": data,
        }
        b.clocked("quire_register", {"WIDTH": sum(bits)}, ports)
        b.steps.append(Step("delay", (1,)))
        self.net = replace(self.net, valid=valid, ready=ready, data=data)
        low = 0
        for i, width in zip(crossing, bits, strict=True):
            name = self._wire(f"r{stage}_{i}", width, part(data, low, width))
            self.vectors[i] = replace(self.vectors[i], data=name)
            low += width

    def _sum(self, adder: Adder, bits: int) -> str:
        """The expression of an adder: low bits that pass, and a sum above them."""
        left, right = self.vectors[adder.left], self.vectors[adder.right]
        sign, above = "-" if adder.subtracts else "+", bits - adder.shift
        self._note(left, bits)
        self._note(right, above)
        if above <= 0:
            return left.from_bit(0, bits)
        self.net.builder.sum_bits += above
        total = f"{left.from_bit(adder.shift, above)} {sign} {right.from_bit(0, above)}"
        return f"{{{total}, {left.from_bit(0, adder.shift)}}}" if adder.shift else total

    def outputs(self, offsets: Sequence[int], total: Integers) -> str:
        """All sums side by side, bias included, each with the bits of `total`."""
        pairs = zip(self.graph.outputs, offsets, strict=True)
        sums = [self._output(term, offset, total.bits) for term, offset in pairs]
        whole = "{" + ", ".join(reversed(sums)) + "}"
        if self.cut:
            self._wire("unused_bits", 1, "^{" + ", ".join(self.cut) + "}")
        return self.net.builder.wire("sums", len(sums) * total.bits, whole)

    def _output(self, term: Term | None, offset: int, bits: int) -> str:
        constant = f"{bits}'h{offset & ((1 << bits) - 1):x}"
        if term is None:
            return constant
        vector = self.vectors[term.value]
        width = bits - term.shift
        self._note(vector, width)
        shifted = vector.from_bit(0, width)
        if term.shift:
            shifted = f"{{{shifted}, {term.shift}'d0}}"
        if not offset and not term.negative:
            return shifted
        self.net.builder.sum_bits += width
        return f"{constant} {'-' if term.negative else '+'} {shifted}"

    def _vector(self, value: int, data: str) -> Vector:
        return Vector(data, self.lows[value], self.highs[value])

    def _wire(self, name: str, bits: int, value: str) -> str:
        """A wire whose name is free: there are thousands."""
        self.net.builder.wires.append(Wire(name, bits, value))
        return name

    def _note(self, vector: Vector, bits: int) -> None:
        """Note a vector of which a reader takes the lowest bits only."""
        if vector.bits > bits:
            self.cut[vector.data] = None
