"""One self-contained HTML page of what compiling costs and gives, from plain data.

```
{"machine": "H200", "date": "2026-11-28", "torch": "2.13.0",
 "figures": [                                   one for each device
   {"device": "cpu", "dtype": "float32",
    "models": {"figures": [                     of one model run in one way
      {"model": "layer", "way": "eager", "first_s": 0.7, "steady_s": 0.0058, "device_s": null,
       "break_even": null, "breaks": 0, "kernels": 30, "peak_bytes": 4718592}],
      "failures": {"layer: quire.compile": "..."}, "left_out": ["layer: eager"]},      optional
    "attention": {"figures": []}}]}             models named "128 tokens, naive"
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quire.report import assets
from quire.report.figures import Figure, layout, logarithmic

COLOURS = ("@ink", "@uniform", "@third", "@fourth", "@front", "@chosen", "@rule")
CALLS = [10 ** (step / 8) for step in range(49)]
"""Numbers of calls that are drawn: 1 to a million, eight to a decade."""

Rows = Sequence[Mapping[str, Any]]


def compilation_page(data: Mapping[str, Any], path: str | Path) -> None:
    """Write the page of a comparison. Needs plotly (the extra `report`)."""
    title = f"Compiling on {data['machine']}"
    assets.write(path, "compilation", title, payload(data))


def payload(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script reads: pictures with titles and notes."""
    pictures: list[dict[str, Any]] = []
    for part in data["figures"]:
        where = f"{part['device']}, {part['dtype']}"
        for model, rows in _by_model(part["models"]["figures"]).items():
            pictures.append({"title": f"{model} ({where})", "note": PAYS, "plot": total_time(rows)})
        if part["attention"]["figures"]:
            plot = attention(part["attention"]["figures"])
            pictures.append({"title": f"Attention ({where})", "note": FUSED, "plot": plot})
    said = f"{data['machine']}, PyTorch {data['torch']}, {data['date']}"
    return {"summary": said + _missing(data), "pictures": pictures}


def _missing(data: Mapping[str, Any]) -> str:
    """How many comparisons failed or came too late, in words; empty where none did."""
    groups = [part[name] for part in data["figures"] for name in ("models", "attention")]
    counts = {
        "failed": sum(len(group.get("failures", ())) for group in groups),
        "had no time": sum(len(group.get("left_out", ())) for group in groups),
    }
    return "".join(f"; {count} {what}" for what, count in counts.items() if count)


PAYS = "Time for so many calls, compilation included: compiling has paid where lines cross eager's."
FUSED = "A later call of causal attention, 8 heads of 64: spelt out, or one call of PyTorch's."


def total_time(rows: Rows) -> Figure:
    """Seconds against the number of calls, a line for each way to run a model."""
    lines = [
        _line(
            row["way"],
            CALLS,
            [row["first_s"] + (calls - 1) * row["steady_s"] for calls in CALLS],
            COLOURS[index % len(COLOURS)],
        )
        for index, row in enumerate(rows)
    ]
    return _drawn(lines, "calls", "seconds in all")


def attention(rows: Rows) -> Figure:
    """Milliseconds against tokens, a line for each way and form."""
    forms: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        tokens, _, form = row["model"].partition(" tokens, ")
        point = (float(tokens), row["steady_s"] * 1e3)
        forms.setdefault(f"{form}, {row['way']}", []).append(point)
    lines = [
        _line(name, [x for x, _ in points], [y for _, y in points], COLOURS[index % len(COLOURS)])
        for index, (name, points) in enumerate(forms.items())
    ]
    return _drawn(lines, "tokens", "milliseconds a call")


def _by_model(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return found


def _line(name: str, x: list[float], y: list[float], colour: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines" if len(x) > 1 else "markers",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"{name}<br>%{{x:.3g}}: %{{y:.3g}}<extra></extra>",
    }


def _drawn(lines: list[Figure], across: str, up: str) -> Figure:
    plot = layout(across, up)
    for axis, key in (("xaxis", "x"), ("yaxis", "y")):
        values = [value for line in lines for value in line[key]]
        plot[axis].update(logarithmic(min(values), max(values)))
    plot["showlegend"] = True
    return {"data": lines, "layout": plot}
