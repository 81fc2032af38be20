"""The folder that `emit` writes, as simulation and lint see it: its manifest, ports and sources."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import HardwareError


@dataclass(frozen=True)
class Port:
    """An AXI4-Stream port of the top.

    `port` is the prefix of its wires; a sample has `beats` beats of `bytes` bytes (`tdata`).
    """

    name: str
    port: str
    beats: int
    bytes: int


@dataclass(frozen=True)
class Emitted:
    """An emitted folder.

    `sources` are relative paths in the order of compilation, `streams` the edges inside the top:
    each has the wires `<stream>_valid`, `<stream>_ready` and `<stream>_data` there. `interval`:
    cycles a sample.
    """

    folder: Path
    top: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sources: tuple[str, ...]
    streams: tuple[str, ...]
    interval: int

    @classmethod
    def read(cls, folder: Path) -> "Emitted":
        """Read `manifest.json`; HardwareError if the folder or one of its sources is not there."""
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise HardwareError(
                f"'{folder}' has no manifest.json: give the folder that quire.emit wrote"
            )
        layout = json.loads(manifest.read_text())
        sources = tuple(layout["sources"])
        for source in sources:
            if not (folder / source).is_file():
                raise HardwareError(f"'{folder}' lacks '{source}' of its manifest: emit it again")
        return cls(
            folder.resolve(),
            layout["top"],
            _ports(layout["inputs"]),
            _ports(layout["outputs"]),
            sources,
            tuple(stream["name"] for stream in layout.get("streams", [])),
            layout.get("interval", 1),
        )

    def log(self, name: str) -> Path:
        """Where the log of a tool goes."""
        return self.folder / "logs" / f"{name}.log"


def _ports(entries: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(e["name"], e["port"], e["beats"], e["bytes"]) for e in entries)
