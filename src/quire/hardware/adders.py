"""Adder graphs: a product with a constant integer matrix as additions of shifted values.

A value of a graph is an input or the result of an adder, and stands for a fixed combination of the
inputs. Graphs come from the solver of da4ml (`quire[da]`) where it is installed, else from `plain`:
canonical signed digits, of which the commonest pair is shared first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.errors import HardwareError

Integer = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Term:
    """A value shifted to the left, and negated or not."""

    value: int
    shift: int
    negative: bool = False

    def moved(self, shift: int, negative: bool = False) -> Term:
        """Shifted further, and negated if `negative`."""
        return Term(self.value, self.shift + shift, self.negative != negative)


@dataclass(frozen=True)
class Adder:
    """left + (right << shift), or left - (right << shift).

    The lowest `shift` bits of the result are those of `left`: they need no adder.
    """

    left: int
    right: int
    shift: int
    subtracts: bool


@dataclass
class AdderGraph:
    """Inputs are the values 0 to inputs - 1, adders the values after them, in order.

    outputs: a term for each row of the matrix; None where the row is zero. rows: what each value
    is of the inputs, integers (inputs,). depths: adders in a row before each value. solver: what
    found it.
    """

    inputs: int
    adders: list[Adder] = field(default_factory=list[Adder])
    outputs: list[Term | None] = field(default_factory=list["Term | None"])
    rows: list[Integer] = field(default_factory=list[Integer])
    depths: list[int] = field(default_factory=list[int])
    known: dict[Adder, int] = field(default_factory=dict[Adder, int])
    solver: str = ""

    @staticmethod
    def of_inputs(count: int) -> AdderGraph:
        """A graph without adders."""
        unit = [np.array([int(i == j) for j in range(count)], dtype=object) for i in range(count)]
        return AdderGraph(count, rows=unit, depths=[0] * count)

    def add(self, a: Term, b: Term) -> Term:
        """The sum of two terms; a value that is there already is not made again.

        Shifts may be negative, the result then too. The value is made with the sign that leaves
        low bits alone: what is shifted further is what is subtracted.
        """
        low, high = sorted((a, b), key=lambda term: (term.shift, term.negative, term.value))
        adder = Adder(low.value, high.value, high.shift - low.shift, low.negative != high.negative)
        if adder not in self.known:
            self.known[adder] = len(self.rows)
            sign = -1 if adder.subtracts else 1
            row = self.rows[adder.left] + self.rows[adder.right] * (sign << adder.shift)
            self.adders.append(adder)
            self.rows.append(row)
            self.depths.append(1 + max(self.depths[adder.left], self.depths[adder.right]))
        return Term(self.known[adder], low.shift, low.negative)

    def matrix(self) -> Integer:
        """The matrix (outputs, inputs) that the graph multiplies with."""
        return np.array([self._row(term) for term in self.outputs], dtype=object)

    def _row(self, term: Term | None) -> Integer:
        if term is None:
            return np.zeros(self.inputs, dtype=object)
        return self.rows[term.value] * ((-1 if term.negative else 1) << term.shift)

    @property
    def depth(self) -> int:
        """Adders in a row before the last output."""
        return max((self.depths[term.value] for term in self.outputs if term), default=0)


Intervals = Sequence[tuple[int, int]]
"""(lowest, highest) of each input."""


def solve(matrix: Integer, intervals: Intervals, solver: str = "auto") -> AdderGraph:
    """A graph of adders for an integer matrix (N, K).

    solver: a key of `SOLVERS`, or "auto": da4ml where it is installed. Raises HardwareError for a
    solver that is not installed.
    """
    chosen = solver if solver != "auto" else ("da4ml" if find_spec("da4ml") else "plain")
    if chosen not in SOLVERS:
        raise HardwareError(f"no solver {solver!r}: there are auto, {', '.join(SOLVERS)}")
    if chosen == "da4ml" and _bits(matrix) > _FLOAT_BITS:
        chosen = "plain"  # it takes the matrix in fp32
    graph = SOLVERS[chosen](matrix, intervals)
    graph.solver = chosen
    if not (graph.matrix() == matrix).all():
        raise HardwareError(f"the adder graph of {chosen} is not the matrix: take another solver")
    return graph


_FLOAT_BITS = 24


def _bits(matrix: Integer) -> int:
    return max((abs(int(w)).bit_length() for w in matrix.flatten()), default=0)


# ------------------------------------------------------------------------------------- da4ml
def da4ml(matrix: Integer, intervals: Intervals) -> AdderGraph:
    """With the solver of da4ml, which weighs adders by their bits."""
    if find_spec("da4ml") is None:
        raise HardwareError("da4ml is not installed: pip install quire[da], or solver='plain'")
    solver: Any = import_module("da4ml.cmvm")
    given = [(float(low), float(high), 1.0) for low, high in intervals]
    kernel = np.ascontiguousarray(matrix.T.astype(np.float32))
    found = solver.solve(kernel, qintervals=given, adder_size=1, carry_size=-1)
    graph = AdderGraph.of_inputs(matrix.shape[1])
    terms: list[Term | None] = [Term(i, 0) for i in range(graph.inputs)]
    for part in found.solutions:
        terms = _outputs(graph, part, terms)
    graph.outputs = terms
    return graph


def _outputs(graph: AdderGraph, part: Any, inputs: Sequence[Term | None]) -> list[Term | None]:
    """The outputs of one part of a solution, whose adders join the graph; a zero is None."""
    made: list[Term | None] = []
    for op in part.ops:
        if op.opcode == -1:
            term = inputs[op.id0]
            made.append(term and term.moved(int(part.inp_shifts[op.id0])))
        else:
            other = made[op.id1]
            made.append(_sum(graph, made[op.id0], other and other.moved(op.data, op.opcode == 1)))
    picked = zip(part.out_idxs, part.out_shifts, part.out_negs, strict=True)
    return [
        None if i < 0 or (term := made[i]) is None else term.moved(int(shift), bool(negative))
        for i, shift, negative in picked
    ]


def _sum(graph: AdderGraph, a: Term | None, b: Term | None) -> Term | None:
    return graph.add(a, b) if a and b else a or b


# ------------------------------------------------------------------------------------- plain
def plain(matrix: Integer, intervals: Intervals) -> AdderGraph:
    """Canonical signed digits; the commonest pair of terms becomes a value, as long as one occurs
    twice; then each row is summed by a tree (Hartley, 1996; Potkonjak and others, 1996)."""
    graph = AdderGraph.of_inputs(matrix.shape[1])
    rows = [
        {Term(k, shift, negative) for k, w in enumerate(row) for shift, negative in csd(int(w))}
        for row in matrix
    ]
    _share(graph, rows)
    graph.outputs = [_tree(graph, row) for row in rows]
    return graph


def csd(weight: int) -> Iterator[tuple[int, bool]]:
    """(shift, whether negative) of each non-zero canonical signed digit of an integer."""
    shift = 0
    while weight:
        if weight & 1:
            digit = 2 - (weight & 3)
            yield shift, digit < 0
            weight -= digit
        weight >>= 1
        shift += 1


Row = set[Term]


def _pair(a: Term, b: Term) -> Adder:
    """Two terms of a row without their common shift and sign."""
    low, high = sorted((a, b), key=lambda term: (term.shift, term.negative, term.value))
    return Adder(low.value, high.value, high.shift - low.shift, low.negative != high.negative)


def _share(graph: AdderGraph, rows: Sequence[Row]) -> None:
    counts: Counter[Adder] = Counter()
    for row in rows:
        terms = sorted(row, key=_order)
        counts.update(_pair(a, b) for i, a in enumerate(terms) for b in terms[:i])
    queue = [(-count, _key(pair), pair) for pair, count in counts.items() if count > 1]
    heapq.heapify(queue)
    while queue:
        count, key, pair = heapq.heappop(queue)
        if counts[pair] != -count:  # it has changed since
            if counts[pair] > 1:
                heapq.heappush(queue, (-counts[pair], key, pair))
            continue
        fresh = _replace(graph, rows, pair, counts)
        for found in fresh:
            if counts[found] > 1:
                heapq.heappush(queue, (-counts[found], _key(found), found))


def _order(term: Term) -> tuple[int, int, bool]:
    return (term.value, term.shift, term.negative)


def _key(pair: Adder) -> tuple[int, int, int, bool]:
    return (pair.left, pair.right, pair.shift, pair.subtracts)


def _replace(
    graph: AdderGraph, rows: Sequence[Row], pair: Adder, counts: Counter[Adder]
) -> set[Adder]:
    """Every occurrence of a pair in the rows becomes a term of its sum; the pairs that are new."""
    fresh: set[Adder] = set()
    counts[pair] = 0
    made: Term | None = None
    for row in rows:
        for a, b in _occurrences(row, pair):
            if a not in row or b not in row:
                continue
            made = made or graph.add(
                Term(pair.left, 0), Term(pair.right, pair.shift, pair.subtracts)
            )
            row -= {a, b}
            for gone in (a, b):
                counts.subtract(_pair(gone, other) for other in row)
            term = made.moved(a.shift, a.negative)
            created = [_pair(term, other) for other in row]
            counts.update(created)
            fresh.update(created)
            row.add(term)
    counts[pair] = 0
    return fresh


def _occurrences(row: Row, pair: Adder) -> list[tuple[Term, Term]]:
    lefts = sorted((t for t in row if t.value == pair.left), key=_order)
    pairs = [
        (a, Term(pair.right, a.shift + pair.shift, a.negative != pair.subtracts)) for a in lefts
    ]
    return [(a, b) for a, b in pairs if b in row and a != b]


def _tree(graph: AdderGraph, row: Row) -> Term | None:
    """The sum of a row: the two shallowest terms first, of those with the lowest shifts."""
    queue = [(graph.depths[t.value], t.shift, _order(t), t) for t in row]
    heapq.heapify(queue)
    while len(queue) > 1:
        a, b = heapq.heappop(queue)[-1], heapq.heappop(queue)[-1]
        t = graph.add(a, b)
        heapq.heappush(queue, (graph.depths[t.value], t.shift, _order(t), t))
    return queue[0][-1] if queue else None


SOLVERS: dict[str, Callable[[Integer, Intervals], AdderGraph]] = {"da4ml": da4ml, "plain": plain}
"""What finds a graph for a matrix."""
