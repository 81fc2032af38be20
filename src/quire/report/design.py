"""One self-contained HTML page of a design, from plain data.

```
{
  "quire_design": 2,                             version of this layout
  "name": "top", "latency": 210, "interval": 176, predicted cycles
  "bottleneck": "fc1",                           the stage or stream that sets the interval
  "inputs": ["x"], "outputs": ["fc2"],           names of streams
  "stages": [                                    in the order of the data
    {"name": "fc1", "kind": "linear", "detail": "16 x 32, lanes 3 x 1",
     "reads": ["x"], "writes": ["fc1"], "interval": 176,
     "queues": [12]}],                           depths of its FIFOs, in beats
  "streams": [
    {"name": "x", "values": "fixed(8,5)", "shape": [32], "lanes": 3, "beats": 11, "bits": 24,
     "times": [[1, 2, 3], [212, 213, 214]]}],    for some samples the predicted cycles of its
                                                 beats, or of the first and the last: sample 0
                                                 alone, then one each interval
  "estimated": {"fc1": {"LUT": 237, "FF": 205, "DSP": 4, "BRAM": 1, "gates": 0}},
  "measured": {"samples": 64, "cycles": 11474, "latency": 210, "interval": 176.0, "compared": 640,
     "traffic": {"x": {"beats": 704, "stalls": 0, "starved": 10}},
     "times": {"x": [[1, 2, 3], [212, 213, 214]]}},                             or null
  "synthesis": {"target": "xc7", "layers": {"fc1": {...}}, "frequency_mhz": null, "tools": {}}
}                                                                               or null
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import HardwareError
from quire.report import assets
from quire.report.dataflow import dataflow
from quire.report.figures import Figure, layout

VERSION = 2
RESOURCES = ("LUT", "FF", "DSP", "BRAM")
SAMPLE_COLOURS = ("@front", "@uniform", "@third", "@chosen", "@fourth")

Design = Mapping[str, Any]


def design_page(design: Design, path: str | Path) -> None:
    """Write the page of a design: dataflow, timeline, predicted against measured, resources.

    design: what `quire.hardware.summary` gives, or its JSON. Needs plotly (the extra `report`).
    HardwareError where the data is of another layout.
    """
    if design.get("quire_design") != VERSION:
        raise HardwareError(
            f"the data of a design has version {design.get('quire_design')!r}: a page needs "
            f"{VERSION}; make it anew with `quire report FOLDER`"
        )
    assets.write(path, "design", design["name"], payload(design), dataflow=dataflow(design))


def payload(design: Design) -> dict[str, Any]:
    """What the page's script reads: tables and figures."""
    run, synthesis = design["measured"], design["synthesis"]
    return {
        "summary": _words(design),
        "compared": _compared(design),
        "timeline": timeline(design),
        "resources": resources(design),
        "streams": [_stream(stream, run) for stream in design["streams"]],
        "is_measured": run is not None,
        "target": None if synthesis is None else synthesis["target"],
    }


def _words(design: Design) -> list[str]:
    count = len(design["stages"])
    words = [
        f"{count} stage{'s' * (count != 1)} · a sample every {design['interval']:,} cycles, set by "
        f"{design['bottleneck']} · latency {design['latency']:,} cycles"
    ]
    run = design["measured"]
    if run is not None and run["compared"]:
        words.append(
            f"simulated: {run['samples']:,} samples, {run['compared']:,} output values compared "
            "with the exact graph, none differs"
        )
    return words


def _compared(design: Design) -> list[list[Any]]:
    """Rows (what, predicted, measured): None where nothing was measured."""
    run, synthesis = design["measured"] or {}, design["synthesis"] or {}
    rows: list[list[Any]] = [
        ["latency (cycles)", design["latency"], run.get("latency")],
        ["interval (cycles a sample)", design["interval"], run.get("interval")],
    ]
    used = synthesis.get("layers")
    for name in RESOURCES:
        measured = None if used is None else sum(layer[name] for layer in used.values())
        rows.append([name, sum(part[name] for part in design["estimated"].values()), measured])
    if synthesis.get("frequency_mhz") is not None:
        rows.append(["clock (MHz), placed", None, round(synthesis["frequency_mhz"], 1)])
    return rows


def _stream(stream: Mapping[str, Any], run: Mapping[str, Any] | None) -> list[Any]:
    traffic = ({} if run is None else run["traffic"]).get(stream["name"], {})
    shape = " × ".join(map(str, stream["shape"]))
    return [
        stream["name"],
        stream["values"],
        shape,
        *(stream[key] for key in ("lanes", "beats", "bits")),
        *(traffic.get(key) for key in ("stalls", "starved")),
    ]


@dataclass(frozen=True)
class _Band:
    """Where beats of one origin are drawn in the row of a stream. times: by stream and sample."""

    name: str
    times: Mapping[str, Sequence[Sequence[int]]]
    offset: float
    height: float
    opacity: float


def _bands(design: Design) -> list[_Band]:
    """What was measured above what was predicted; if nothing was measured, that alone."""
    predicted = {stream["name"]: stream["times"] for stream in design["streams"]}
    if design["measured"] is None:
        return [_Band("predicted", predicted, 0.0, 0.62, 0.28)]
    return [
        _Band("measured", design["measured"]["times"], -0.17, 0.38, 0.3),
        _Band("predicted", predicted, 0.2, 0.26, 0.12),
    ]


def timeline(design: Design) -> Figure:
    """When the beats of each stream move: a row a stream, a colour a sample."""
    names = [stream["name"] for stream in design["streams"]]
    figure = layout("cycle", "")
    figure["margin"] = {"l": 10, "r": 16, "t": 56, "b": 52}
    figure["showlegend"] = True
    figure["legend"] = {**figure["legend"], "y": 1.05}
    figure["barmode"] = "overlay"
    figure["yaxis"] = {
        **figure["yaxis"],
        "range": [len(names) - 0.5, -0.5],
        "ticks": "",
        "showgrid": False,
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }
    figure["xaxis"]["rangemode"] = "tozero"
    figure["shapes"] = [_line(design["latency"])]
    figure["annotations"] = [
        {
            "x": design["latency"],
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "left",
            "showarrow": False,
            "text": f"latency {design['latency']:,}",
            "font": {"size": 12, "color": "@muted"},
        }
    ]
    bands = _bands(design)
    parts = [
        part
        for band in bands
        for sample in range(max(map(len, band.times.values())))
        for part in _sample(design["streams"], band, sample, band is bands[0])
    ]
    return {"data": parts, "layout": figure}


def _line(cycle: int) -> Figure:
    ends = {"x0": cycle, "x1": cycle, "y0": 0, "y1": 1, "yref": "paper"}
    return {"type": "line", "line": {"color": "@rule", "width": 1.5, "dash": "dot"}, **ends}


def _sample(
    streams: Sequence[Mapping[str, Any]], band: _Band, index: int, is_first: bool
) -> list[Figure]:
    """The bars of a sample, from its first to its last beat, and a tick for each beat."""
    colour = SAMPLE_COLOURS[index % len(SAMPLE_COLOURS)]
    rows = [
        (place + band.offset, stream, band.times[stream["name"]][index])
        for place, stream in enumerate(streams)
        if len(band.times[stream["name"]]) > index
    ]
    beats = [(y, t) for y, stream, times in rows if len(times) == stream["beats"] for t in times]
    name = f"sample {index}"
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "legendgroup": name,
        "showlegend": is_first,
        "y": [y for y, _, _ in rows],
        "base": [times[0] for _, _, times in rows],
        "x": [times[-1] + 1 - times[0] for _, _, times in rows],
        "customdata": [[stream["name"], times[0], times[-1]] for _, stream, times in rows],
        "width": band.height,
        "marker": {"color": colour, "opacity": band.opacity, "line": {"width": 0}},
        "hovertemplate": (
            f"<b>%{{customdata[0]}}</b>, {name}, {band.name}<br>"
            "beats from cycle %{customdata[1]} to %{customdata[2]}<extra></extra>"
        ),
    }
    ticks: Figure = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": name,
        "showlegend": False,
        "x": [t + 0.5 for _, t in beats],
        "y": [y for y, _ in beats],
        "marker": {
            "symbol": "line-ns-open",
            "size": 21 * band.height,
            "color": colour,
            "line": {"width": 1.6},
        },
        "hoverinfo": "skip",
    }
    return [bars, ticks]


def resources(design: Design) -> Figure:
    """What each layer uses: a panel a resource, estimated and, where it was done, synthesised."""
    estimated, synthesis = design["estimated"], design["synthesis"]
    found: dict[str, Mapping[str, Mapping[str, float]]] = {"estimated": estimated}
    if synthesis is not None:
        found[f"Yosys, {synthesis['target']}"] = synthesis["layers"]
    layers = list(dict.fromkeys(name for used in found.values() for name in used))
    figure = layout("", "")
    axis = figure.pop("xaxis")
    figure.update(showlegend=True, margin={"l": 10, "r": 16, "t": 64, "b": 30}, barmode="group")
    figure["legend"] = {**figure["legend"], "y": 1.07}
    figure["yaxis"] = {
        **figure["yaxis"],
        "type": "category",
        "autorange": "reversed",
        "ticks": "",
        "showgrid": False,
    }
    figure["annotations"] = []
    data: list[Figure] = []
    step = 1 / len(RESOURCES)
    for i, name in enumerate(RESOURCES):
        number = "" if i == 0 else str(i + 1)
        domain = [i * step, (i + 1) * step - 0.03]
        figure[f"xaxis{number}"] = {**axis, "title": {}, "domain": domain, "nticks": 5}
        figure["annotations"].append(_head(name, domain[0]))
        data += [
            _bars(label, used, layers, name, f"x{number}", i == 0, label == "estimated")
            for label, used in found.items()
        ]
    return {"data": data, "layout": figure}


def _head(name: str, x: float) -> Figure:
    place = {"x": x, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left"}
    return {**place, "yanchor": "bottom", "showarrow": False, "text": f"<b>{name}</b>"}


def _bars(
    label: str,
    used: Mapping[str, Mapping[str, float]],
    layers: Sequence[str],
    name: str,
    axis: str,
    is_first: bool,
    is_estimate: bool,
) -> Figure:
    values = [used.get(layer, {}).get(name, 0) for layer in layers]
    colour = "@trial" if is_estimate else "@front"
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "legendgroup": label,
        "showlegend": is_first,
        "x": values,
        "y": list(layers),
        "xaxis": axis,
        "marker": {"color": colour, "opacity": 0.55 if is_estimate else 1},
        "hovertemplate": f"<b>%{{y}}</b><br>{name} %{{x:,}} ({label})<extra></extra>",
    }
