"""`bias`: the bias of a product takes over the mean of the error that the cast of its weight makes.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section
4.2: with e the weight less its cast, E[e x] = e E[x] is added to the bias, so that the mean of the
product over the calibration data is what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from quire.graph.sites import Site
from quire.precision.corrections.base import Correction, Options
from quire.precision.corrections.products import WHERE, is_weight

if TYPE_CHECKING:
    from quire.precision.entry import Entry


def mean_error(error: Tensor, mean: Tensor, options: Options) -> Tensor:
    """What is added to the bias, (groups, rows)."""
    return (error @ mean[..., None]).squeeze(-1)


def _takes(site: Site, entry: Entry) -> bool:
    return is_weight(site, entry) and site.bias is not None


BIAS = Correction(
    name="bias",
    where=f"{WHERE}, and a bias of it as well",
    takes=_takes,
    options={},
    bias=mean_error,
)
