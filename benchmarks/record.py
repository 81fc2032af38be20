"""What every benchmark shares: a result as JSON on disk and on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from quire.software.machine import machine, result

RESULTS = Path(__file__).parent / "results"

__all__ = ["RESULTS", "machine", "record"]


def record(name: str, figures: Any, folder: Path = RESULTS) -> Path:
    """Write and print one benchmark's figures with the command, the machine and the versions."""
    text = json.dumps(result(name, " ".join(["python", *sys.argv]), figures), indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{machine()}.json"
    path.write_text(text + "\n")
    print(text)
    return path
