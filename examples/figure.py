"""What a lab shows: one figure as an HTML page, and a table of the same numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from plotly.graph_objects import Figure, Heatmap, Scatter
from rich import print
from rich.table import Column, Table

from quire.explore import Study

Curve = tuple[Sequence[float], Sequence[float]]  # across and upwards


def best_so_far(study: Study, metric: str) -> Curve:
    """After how many trials, fp32 not counted, the best value within the limits was how good."""
    better = min if study.objectives.directions[metric] == "min" else max
    counts, values = list[float](), list[float]()
    for trial in study.feasible:
        counts.append(trial.number)
        values.append(better([trial.metrics[metric], *values[-1:]]))
    return counts, values


def curves(
    drawn: Mapping[str, Curve], across: str, up: str, path: Path, shape: str = "hv", **layout: str
) -> None:
    """Draw one curve a name, as steps or ("linear") from point to point.

    layout: more of Plotly's, such as yaxis_type="log".
    """
    style = {"mode": "lines+markers", "marker_size": 4, "line_shape": shape}
    traces = [Scatter(x=list(x), y=list(y), name=name, **style) for name, (x, y) in drawn.items()]
    _write(Figure(traces), across, up, path, showlegend=True, **layout)


def heat_map(
    values: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    titles: tuple[str, str, str],
    path: Path,
) -> None:
    """Draw a row of cells for each name, the first on top.

    titles: across, upwards, and of the colours.
    """
    across, up, of_colour = titles
    cells = {"x": list(columns), "y": list(values), "z": [list(row) for row in values.values()]}
    style = {"texttemplate": "%{z:.2f}", "colorscale": "Viridis", "colorbar_title": of_colour}
    _write(Figure(Heatmap(**cells, **style)), across, up, path, yaxis_autorange="reversed")


def table(rows: Mapping[str, Sequence[float]], columns: Sequence[str], title: str) -> None:
    """Print a row of numbers for each name."""
    printed = Table("", *(Column(name, justify="right") for name in columns), title=title, box=None)
    for name, values in rows.items():
        printed.add_row(name, *(f"{value:.4g}" for value in values))
    print(printed)


def _write(figure: Figure, across: str, up: str, path: Path, **layout: object) -> None:
    figure.update_layout(xaxis_title=across, yaxis_title=up, template="plotly_white", **layout)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True, div_id="figure")
    print(f"{path}: {path.stat().st_size:,} bytes")
