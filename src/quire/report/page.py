"""One self-contained HTML page of a study: it opens anywhere and asks the network for nothing."""

from pathlib import Path
from typing import Any

from quire.errors import StudyError
from quire.formats import parse
from quire.report import assets
from quire.report.distribution import distribution
from quire.report.drawing import block_of, drawing
from quire.report.figures import (
    axes,
    brief,
    complete,
    drawn_metrics,
    short,
    views,
    without_corrections,
)
from quire.report.front import front
from quire.report.heat import columns, heat
from quire.report.limits import limit_rows
from quire.report.prediction import prediction
from quire.report.progress import progress
from quire.report.results import StudyResults, TensorRecord


def page(results: StudyResults, path: str | Path) -> None:
    """Write the page of a study: the front, and for each plan why it is what it is.

    That is a map of its sites and formats over the sensitivities, its formats on a drawing of the
    model, its limits, its cost by layer, and its predicted against its true loss, as far as the
    results hold them; then progress, distributions and figures. A click on a point shows its plan.
    Needs plotly (the extra `report`), whose script is written into the page; StudyError where it is
    not installed or no trial was completed.
    """
    if not complete(results):
        metrics = " and ".join(drawn_metrics(results))
        raise StudyError(
            f"study {results.name!r} has no completed trial with {metrics}; "
            "a page needs one: search on, or see the errors of its failed trials"
        )
    assets.write(path, "page", results.name, payload(results))


def payload(results: StudyResults) -> dict[str, Any]:
    """What the page's script reads: figures, and each completed trial's plan by format index."""
    return {
        "name": results.name,
        "objectives": dict(results.objectives),
        "limits": dict(results.limits),
        "lower": [metric for metric in results.limits if results.is_lower(metric)],
        "counts": _counts(results),
        "front": list(results.front),
        "chosen": results.chosen,
        "shown": _shown_first(results),
        **_plans(results),
        "errors": [
            {"number": trial.number, "error": trial.error}
            for trial in results.trials
            if trial.state == "failed"
        ],
        "figures": [
            {"label": row.label, "split": row.split, "metrics": dict(row.metrics)}
            for row in results.figures
        ],
        "fronts": [_front(view) for view in views(results)],
        "progress": progress(results),
        "heat": _heat(results),
        "prediction": prediction(results),
        "limit_rows": limit_rows(results),
        "model": drawing(results.model) if results.model else [],
        "layers": {name: dict(row) for name, row in results.layers.items()},
        "tensors": [_tensor(tensor) for tensor in results.tensors],
    }


def _plans(results: StudyResults) -> dict[str, Any]:
    """The formats, the searched sites, and the completed trials, whose plans are format indices."""
    formats = formats_by_size(results)
    index = {name: position for position, name in enumerate(formats)}
    trials = complete(results)
    used = {site for trial in trials for site in trial.plan}
    sites = [site for site in results.sites if site.name in used]
    return {
        "formats": [
            {"name": name, "short": short(name), "brief": brief(name), "bits": bits}
            for name, bits in formats.items()
        ],
        "sites": [
            {
                "name": s.name,
                "role": s.role,
                "shape": s.shape,
                "elements": s.elements,
                "tie": s.tie,
                "layer": (layer := s.name.rpartition(".")[0]),
                "block": block_of(s.name) or layer,
                "bits": [s.bits.get(name, bits) for name, bits in formats.items()],
            }
            for s in sites
        ],
        "trials": [
            {
                "number": trial.number,
                "label": trial.label,
                "metrics": dict(trial.metrics),
                "plan": [index.get(trial.plan.get(site.name, ""), -1) for site in sites],
            }
            for trial in trials
        ],
    }


def _tensor(tensor: TensorRecord) -> dict[str, Any]:
    values = f"The ticks below are the {len(tensor.grid)} values of {tensor.format}."
    return {
        "name": f"{tensor.site} · {tensor.format}",
        "note": values if tensor.grid else "",
        "plot": distribution(tensor),
    }


def _heat(results: StudyResults) -> dict[str, Any] | None:
    """The heat map, its unit, and for each format the place of its column."""
    found = results.sensitivities
    if found is None:
        return None
    places = columns(found, formats_by_size(results))
    across = list(dict.fromkeys(places.values()))
    return {
        "plot": heat(results, found, places),
        "unit": found.loss,
        "sites": [site.name for site in results.sites if site.name in found.values][::-1],
        "columns": [across.index(column) for column in places.values()],
    }


def formats_by_size(results: StudyResults) -> dict[str, float]:
    """The formats that any trial uses, or that were measured alone, narrowest first, with their
    bits per value on long rows."""
    names = {text for trial in complete(results) for text in trial.plan.values()}
    if results.sensitivities is not None:
        names |= {text for row in results.sensitivities.values.values() for text in row}
    bits = {name: parse(without_corrections(name)).bits_per_value(4096) for name in names}
    return dict(sorted(bits.items(), key=lambda item: (item[1], item[0])))


def _front(results: StudyResults) -> dict[str, Any]:
    across, up = axes(results)
    return {"across": across, "up": up, "plot": front(results)}


def _counts(results: StudyResults) -> dict[str, int]:
    states = [trial.state for trial in results.trials]
    return {state: states.count(state) for state in ("complete", "pruned", "failed")}


def _shown_first(results: StudyResults) -> int:
    """The chosen trial, else the front's first, else the first completed, a plan before fp32."""
    numbers = [t.number for t in sorted(complete(results), key=lambda t: t.baseline)]
    preferred = [n for n in (results.chosen, *results.front) if n in numbers]
    return [*preferred, *numbers][0]
