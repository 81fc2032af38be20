"""What a search wants: metrics to maximise or minimise, and hard limits on metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Literal, TypeVar

from quire.errors import StudyError

DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}
"""Ours -> Optuna's."""

SIDES = {">=": -1, "<=": 1}
"""How a limit in words begins -> the sign of what is beyond it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Objectives:
    """Objectives in order of importance, and limits.

    directions: {metric: "min" or "max"}.
    limits: {metric: bound}; a number is a lower bound for a metric that is maximised, an upper one
        for a metric that is minimised and for a cost. Of a measured metric that is no objective
        nothing says which, so its bound is text: the fewest bits at an accuracy of 0.9 are
        {"bits": "min"} with the limit {"accuracy": ">= 0.9"}.
    Raises StudyError for a direction or a bound of the wrong kind.
    """

    directions: Mapping[str, str]
    limits: Mapping[str, float | str]

    def __post_init__(self) -> None:
        if not self.directions:
            raise StudyError('a search needs an objective, such as {"accuracy": "max"}')
        for metric, direction in self.directions.items():
            if direction not in DIRECTIONS:
                raise StudyError(f'objective {metric!r} is {direction!r}: write "min" or "max"')
        _ = self.bounds

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The limits as numbers."""
        return {metric: _number(metric, bound) for metric, bound in self.limits.items()}

    @cached_property
    def lower(self) -> list[str]:
        """The metrics whose limit is a lower bound."""
        return [metric for metric in self.limits if self._side(metric) < 0]

    @property
    def names(self) -> list[str]:
        """The metrics that objectives or limits name."""
        return [*self.directions, *self.limits]

    def check_metrics(self, known: Iterable[str], costs: Iterable[str]) -> None:
        """Raise StudyError where an objective or a limit names none of the known metrics, or a
        limit a measured metric of which it is unknown whether more is better."""
        names = sorted(known)
        for kind, metrics in (("objective", self.directions), ("limit", self.limits)):
            for metric in metrics:
                if metric not in names:
                    raise StudyError(
                        f"{kind} {metric!r} is no metric of this task; there are {', '.join(names)}"
                    )

        for metric in self.limits.keys() - self.directions.keys() - set(costs):
            bound = self.limits[metric]
            if not isinstance(bound, str):
                raise StudyError(
                    f"limit {metric!r}: nothing says whether it is a lower or an upper one; write "
                    f'">= {bound:g}" or "<= {bound:g}", or make {metric!r} an objective'
                )

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """The objectives' values, in order; the worst of a cost that the fp32 model has not."""
        return [metrics.get(name, self._sign(name) * math.inf) for name in self.directions]

    def losses(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The objectives' values, in order, signed so that lower is better."""
        return tuple(self._sign(name) * metrics[name] for name in self.directions)

    def excess(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit on one of `metrics` is exceeded; zero or less where it is met."""
        return {
            name: self._side(name) * (metrics[name] - bound)
            for name, bound in self.bounds.items()
            if name in metrics
        }

    def admits(self, metrics: Mapping[str, float]) -> bool:
        """Whether `metrics` meet every limit on them."""
        return all(excess <= 0 for excess in self.excess(metrics).values())

    def _sign(self, metric: str) -> int:
        return -1 if self.directions.get(metric) == "max" else 1

    def _side(self, metric: str) -> int:
        """The sign of what is beyond a limit."""
        bound = self.limits[metric]
        return SIDES[bound.strip()[:2]] if isinstance(bound, str) else self._sign(metric)


def _number(metric: str, bound: object) -> float:
    """A limit as a number; one in words begins with its side."""
    number = bound
    if isinstance(bound, str) and bound.strip()[:2] in SIDES:
        with suppress(ValueError):
            number = float(bound.strip()[2:])
    if not isinstance(number, Real) or math.isnan(number):
        raise StudyError(
            f'limit {metric!r} is {bound!r}: give a number, or ">= number" or "<= number"'
        )
    return float(number)


def pareto_front(items: Sequence[T], losses: Sequence[tuple[float, ...]]) -> list[T]:
    """The items that no other dominates, the best in the first objective first.

    losses: one tuple an item, lower is better. Of equal items the first stays.
    """
    order = sorted(range(len(items)), key=lambda i: (losses[i], i))
    front: list[int] = []
    for i in order:  # in this order nothing later dominates anything earlier
        pairs = (zip(losses[j], losses[i], strict=True) for j in front)
        if not any(all(a <= b for a, b in pair) for pair in pairs):
            front.append(i)
    return [items[i] for i in front]
