"""What every benchmark shares: the machine's name, and a result as JSON on disk and on stdout."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """The processor or GPU that the figures belong to."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().removeprefix("NVIDIA ").replace(" ", "-")
    cpus = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in cpus if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0].replace(' ', '-')}-{os.cpu_count()}-cores"


def record(name: str, figures: Any, folder: Path = RESULTS) -> Path:
    """Write and print one benchmark's figures with the command, the machine and the versions."""
    result = {
        "benchmark": name,
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "figures": figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{machine()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return path
