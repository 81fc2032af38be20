"""The machine that figures belong to, and a benchmark's result as plain data."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """The GPU, where there is one, or the processor and its cores, without spaces."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().removeprefix("NVIDIA ").replace(" ", "-")
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0].replace(' ', '-')}-{os.cpu_count()}-cores"


def result(name: str, command: str, figures: Any) -> dict[str, Any]:
    """One benchmark's figures with the command, the machine, the date and the versions."""
    return {
        "benchmark": name,
        "command": command,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "figures": figures,
    }
