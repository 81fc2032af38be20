"""The plot of a tensor: the density of its elements above the values that its format has."""

import numpy as np
import numpy.typing as npt

from quire.report.figures import Figure, layout, logarithmic
from quire.report.results import TensorRecord

BINS = 96

Values = npt.NDArray[np.float64]


def distribution(tensor: TensorRecord) -> Figure:
    """The density of a tensor's elements (logarithmic) above the values that its format has.

    Elements that are NaN or Inf are left out; where no other is, there are no bars.
    """
    values = np.asarray(tensor.values, dtype=np.float64)
    density, edges = _density(values[np.isfinite(values)])
    seen = density > 0
    unit = f" ({tensor.unit})" if tensor.unit else ""
    plot = layout(f"{tensor.site}{unit}", "density")
    plot["xaxis"].update(anchor="y2")
    plot["yaxis"].update(domain=[0.15, 1])
    if seen.any():
        plot["yaxis"].update(logarithmic(density[seen].min(), density.max()))
    plot["yaxis2"] = {"domain": [0, 0.1], "visible": False, "range": [-1, 1], "fixedrange": True}
    plot["bargap"] = 0.04
    histogram = {
        "type": "bar",
        "name": tensor.site,
        "x": ((edges[:-1] + edges[1:]) / 2)[seen].tolist(),
        "y": density[seen].tolist(),
        "width": float(edges[1] - edges[0]),
        "marker": {"color": "@front", "line": {"width": 0}},
        "hovertemplate": "%{x:.4g}: density %{y:.3g}<extra></extra>",
    }
    ticks = {
        "type": "scatter",
        "mode": "markers",
        "name": f"values of {tensor.format}",
        "x": list(tensor.grid),
        "y": [0] * len(tensor.grid),
        "yaxis": "y2",
        "marker": {
            "symbol": "line-ns-open",
            "size": 16,
            "color": "@uniform",
            "line": {"width": 1.6},
        },
        "hovertemplate": "%{x:.6g}<extra></extra>",
    }
    return {"data": [histogram, ticks], "layout": plot}


def _density(values: Values) -> tuple[Values, Values]:
    """The density in each bin, and the bins' edges; a bin without density for no values."""
    if not values.size:
        return np.zeros(1), np.array([0.0, 1.0])
    low, high = values.min(), values.max()
    largest = max(-low, high)
    if high - low <= BINS * np.spacing(largest):  # too near for bins between them
        half = max(0.5, largest / 1024)
        low, high = low - half, high + half
    return np.histogram(values, bins=BINS, range=(low, high), density=True)
