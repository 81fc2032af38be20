"""What a correction is: a record of what it changes before the casts, and of where it may stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from quire.formats import Format
from quire.graph.sites import Site

if TYPE_CHECKING:
    from quire.precision.corrections.layer import Layer
    from quire.precision.entry import Entry

Options: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Option:
    """A number that can be set, an integer where its default is one; both bounds are legal."""

    default: float
    low: float
    high: float

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, as in "5 is ...", or None."""
        whole = isinstance(self.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            legal = False
        else:
            legal = self.low <= value <= self.high
        kind = "integer" if whole else "number"
        return None if legal else f"no {kind} from {self.low} to {self.high}"


@dataclass(frozen=True)
class Correction:
    """A change of parameters, or of a static scale, that is made once, from calibration data.

    name: as an entry names it.
    where: the sites that it takes, in words.
    takes: whether a site can have it under an entry.
    options: the numbers that can be set.
    weight: (layer, weight so far, options) -> a weight in its place; both of the shape of
        `layer.weight`.
    bias: (error, mean, options) -> what is added to the bias. The error (groups, rows, length) is
        the weight less its cast, the mean (groups, length) that of the inputs, both float64; the
        result has the shape (groups, rows).
    scale: (format, observed values (n,), options) -> the static scale of an activation.
    """

    name: str
    where: str
    takes: Callable[[Site, Entry], bool]
    options: Mapping[str, Option]
    weight: Callable[[Layer, Tensor, Options], Tensor] | None = None
    bias: Callable[[Tensor, Tensor, Options], Tensor] | None = None
    scale: Callable[[Format, Tensor, Options], float | tuple[float, float]] | None = None

    def filled(self, options: Options) -> dict[str, float]:
        """The options, with the default of each one that is not given."""
        return {name: options.get(name, option.default) for name, option in self.options.items()}
