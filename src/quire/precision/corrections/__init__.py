"""Corrections: what calibration data changes of parameters and scales before the casts."""

from __future__ import annotations

from quire.precision.corrections.base import Correction, Option
from quire.precision.corrections.bias import BIAS
from quire.precision.corrections.clip import CLIP
from quire.precision.corrections.gptq import GPTQ

CORRECTIONS: dict[str, Correction] = {found.name: found for found in (CLIP, GPTQ, BIAS)}
"""By name, in the order in which they are made."""

__all__ = ["CORRECTIONS", "Correction", "Option"]
