"""Lanes: how many products each linear layer forms at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

from quire.errors import HardwareError

Lanes = Mapping[str, tuple[int, int] | Literal["unroll"]]
"""{linear layer: (M_in, M_out), or "unroll": weights as constants in logic, a row each cycle}"""


@dataclass(frozen=True)
class Layer:
    """A linear layer as the scheduler sees it: `rows` rows a sample of K values to N sums.

    blocks: sizes of the blocks along K, which the lanes in have to divide.
    """

    name: str
    rows: int
    k: int
    n: int
    blocks: tuple[int, ...]

    @property
    def lanes_in(self) -> list[int]:
        """Legal M_in."""
        inner = gcd(*(size for size in self.blocks if size < self.k))
        return [m for m in range(1, self.k + 1) if inner == 0 or inner % m == 0]

    @property
    def fastest(self) -> int:
        """Cycles a sample with all lanes out and the most lanes in."""
        return self.interval(max(self.lanes_in), self.n)

    def interval(self, m_in: int, m_out: int) -> int:
        """Cycles a sample."""
        return self.rows * -(-self.k // m_in) * -(-self.n // m_out)


SUM = 2
"""What a lane out costs besides its products, in products: an accumulator, a bias and a cast."""


def for_interval(layers: list[Layer], cycles: int) -> dict[str, tuple[int, int]]:
    """The cheapest lanes with which every layer meets an interval.

    A lane out costs its M_in products and `SUM` more; of equal costs, the most lanes in.
    """
    return {layer.name: _cheapest(layer, cycles) for layer in layers}


def _cheapest(layer: Layer, cycles: int) -> tuple[int, int]:
    legal: list[tuple[int, int]] = []
    for m_in in layer.lanes_in:
        groups = cycles // (layer.rows * -(-layer.k // m_in))
        if groups:
            legal.append((m_in, -(-layer.n // min(groups, layer.n))))
    if not legal:
        raise HardwareError(
            f"{layer.name}: {cycles} cycles a sample are too few; it takes {layer.fastest} at "
            f"least (lanes in are at most {max(layer.lanes_in)})"
        )
    return min(legal, key=lambda pair: ((pair[0] + SUM) * pair[1], -pair[0]))
