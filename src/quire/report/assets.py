"""What pages are put together from: files of this folder, data, and the script of plotly."""

import html
import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from quire.errors import StudyError


def write(path: str | Path, name: str, title: str, data: dict[str, Any], **parts: str) -> None:
    """Write one self-contained page from `name`.html and `name`.js.

    data: what the script reads. parts: further texts for the template.
    """
    text = Template(asset(f"{name}.html")).substitute(
        title=html.escape(title),
        style=asset("page.css"),
        plotly=plotly(),
        results=embed(data),
        script=asset("common.js") + asset(f"{name}.js"),
        **parts,
    )
    Path(path).write_text(text, encoding="utf-8")


def asset(name: str) -> str:
    """The text of a file of this folder."""
    return files("quire.report").joinpath(name).read_text(encoding="utf-8")


def embed(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def plotly() -> str:
    """The script that draws; StudyError where it is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise StudyError(
            "the page draws with plotly, which is not installed: pip install 'quire[report]'"
        ) from None
    return get_plotlyjs()
