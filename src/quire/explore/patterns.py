"""Format patterns: a format string with sets of integers in it, `fixed(4..16,free)`.

In any format string an integer may be a range `a..b`, both ends included, or a set `a|b|c`. One
that moves the range by a power of two (the fraction bits of `fixed`, the bias of `minifloat`) may
be `fitted`, the integer with the least squared error on the site's calibration data, or `free`,
that integer and up to two steps to either side of it. A plain format string stands for itself.
Corrections may follow, `mxint4+gptq+bias`: formats of their own to a search, of the same size.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from quire.errors import StudyError
from quire.formats import parse
from quire.precision.entry import Entry, split_corrections

FREE_STEPS = range(-2, 3)
_HOLE = re.compile(r"(?:(\w+)=)?(-?\d+\.\.-?\d+|-?\d+(?:\|-?\d+)+|free|fitted)(?=[,)])")

# Takes a format string with `{}` for an integer, gives the integer that fits a site's data best;
# None where no such format fits the dtype of the data.
Fit = Callable[[str], int | None]


@dataclass(frozen=True)
class Hole:
    """One parameter of a pattern, and the integers it takes (of a fitted one: steps from there)."""

    name: str
    values: tuple[int, ...]
    fitted: bool

    @classmethod
    def read(cls, name: str, text: str) -> "Hole":
        """The hole that `a..b`, `a|b`, `fitted` or `free` describes."""
        named = {"fitted": (0,), "free": tuple(FREE_STEPS)}
        if text in named:
            return cls(name, named[text], True)
        if ".." in text:
            low, high = (int(end) for end in text.split(".."))
            return cls(name, tuple(range(low, high + 1)), False)
        return cls(name, tuple(dict.fromkeys(int(value) for value in text.split("|"))), False)


@dataclass(frozen=True)
class Pattern:
    """A parsed format pattern: a template with one `{name}` for each hole, and corrections."""

    text: str
    template: str
    holes: tuple[Hole, ...]
    corrections: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern; StudyError for an empty range, FormatError where no format results,
        PlanError for an unknown correction."""
        holes: list[Hole] = []

        def replace(match: re.Match[str]) -> str:
            keyword, values = match.groups()
            hole = Hole.read(keyword or f"arg{len(holes) + 1}", values)
            if not hole.values:
                raise StudyError(f"format pattern {text!r}: the range {values} is empty")
            holes.append(hole)
            return f"{keyword}={{{hole.name}}}" if keyword else f"{{{hole.name}}}"

        format, corrections = split_corrections("".join(text.split()))
        template = _HOLE.sub(replace, format)
        pattern = cls(text, template, tuple(holes), tuple(corrections))
        if sum(hole.fitted for hole in holes) > 1:
            raise StudyError(f"format pattern {text!r}: one integer of a format can be fitted")
        for settings in pattern.settings():
            parse(pattern.fill(settings))
        return pattern

    def settings(self) -> Iterator[dict[str, int]]:
        """Every combination of the holes' values."""
        for values in itertools.product(*(hole.values for hole in self.holes)):
            yield {hole.name: value for hole, value in zip(self.holes, values, strict=True)}

    def fill(self, settings: Mapping[str, int]) -> str:
        """The format string with the holes filled in."""
        return self.template.format_map(settings)

    def entry(self, settings: Mapping[str, int], fit: Fit) -> Entry | None:
        """The entry of `settings`, whose steps count from the integer that `fit` finds, if any."""
        filled = dict(settings)
        for hole in self.holes:
            if hole.fitted:
                best = fit(self.template.format_map({**settings, hole.name: "{}"}))
                if best is None:
                    return None
                filled[hole.name] = best + settings[hole.name]
        return Entry.of("+".join([self.fill(filled), *self.corrections]))

    def label(self, settings: Mapping[str, int]) -> str:
        """The settings in words, the same at every site: `fixed(4,fitted)`, `fixed(4,fitted-1)`."""
        words: dict[str, int | str] = dict(settings)
        for hole in self.holes:
            if hole.fitted:
                step = settings[hole.name]
                words[hole.name] = f"fitted{step:+d}" if step else "fitted"
        return "+".join([self.template.format_map(words), *self.corrections])
