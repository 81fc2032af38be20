"""One trial of a search: a plan that was tried, and what it gave."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quire.precision import Plan

BASELINE = "fp32"
UNIFORM = "uniform "
TRAINED = "qat "


@dataclass(frozen=True)
class Trial:
    """A plan that was tried.

    formats: {site: format string}; empty for the fp32 baseline.
    metrics: what `evaluate` returned and the costs; of a failed trial the costs alone.
    label: "fp32", "uniform mxint4", "qat 5" for a plan that was trained 5 epochs after the search
        had found it, or "".
    seconds: the time to prepare, train and evaluate it.
    error: why it failed.
    """

    number: int
    formats: Mapping[str, str]
    metrics: Mapping[str, float]
    state: Literal["complete", "failed"] = "complete"
    label: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def plan(self) -> Plan:
        """The plan, a new one at each call."""
        return Plan(self.formats)

    @property
    def family(self) -> str:
        """The family that all of its formats share ("mxint", "bfp"), or "mixed"."""
        names = {re.split(r"[^a-z]", text, maxsplit=1)[0] for text in self.formats.values()}
        return names.pop() if len(names) == 1 else "mixed" if names else self.label
