"""`Maximum`: a cost that is the largest of its parts, such as the cycles of the slowest stage."""

from __future__ import annotations

from collections.abc import Mapping


class Maximum(float):
    """A number that knows of what it is the largest; the integer program limits each part.

    parts: {part: value}, such as {stage: cycles}; not empty.
    """

    parts: Mapping[str, float]

    def __new__(cls, parts: Mapping[str, float]) -> Maximum:
        made = super().__new__(cls, max(parts.values()))
        made.parts = dict(parts)
        return made

    def __reduce__(self) -> tuple[type[Maximum], tuple[Mapping[str, float]]]:
        return Maximum, (self.parts,)
