"""Synthesise an emitted folder with Yosys: what it uses, in all and by layer, and on request its
speed as placed by nextpnr.

Logs, scripts and netlists stay in `synth/<target>/` of the folder, results too: the same sources,
memories, options and tools are not synthesised twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from quire.errors import HardwareError
from quire.hardware.arguments import check
from quire.hardware.emitted import Emitted
from quire.hardware.netlist import Resources, count, layers_of, read_netlist
from quire.hardware.place import CriticalPath, Timing
from quire.hardware.place import place as place_netlist
from quire.hardware.targets import TARGETS, WITH_LIBERTY, Target, library_costs
from quire.hardware.toolchain import NEXTPNR, YOSYS, Watch, run_yosys


@dataclass(frozen=True)
class Synthesis:
    """What a design uses after synthesis.

    total, layers: resources, in all and by stage (a module path, `__` for its dots) or port of the
    top; what belongs to no instance is in the layer "(top)". frequency_mhz, critical_path: of the
    placed design, else None. tools: versions. log: of Yosys; those of nextpnr are beside it.
    """

    target: str
    top: str
    total: Resources
    layers: Mapping[str, Resources]
    frequency_mhz: float | None
    critical_path: CriticalPath | None
    tools: Mapping[str, str]
    log: Path


def synthesize(
    folder: Path,
    target: str,
    *,
    place: bool = False,
    liberty: str | os.PathLike[str] | None = None,
    clock_mhz: float = 200.0,
    seed: int = 1,
    timeout: float | None = None,
    progress: bool = False,
) -> Synthesis:
    """Synthesise the design in `folder` (with its manifest.json) for a target.

    target: "xc7" (7 series), "xcup" (UltraScale+), "ecp5", or "gates" (two-input NANDs of the same
    area, from transistor counts, or from the areas of the cells in `liberty`).
    place: also place the design, with `seed`, for a clock of `clock_mhz`; only on "ecp5".
    timeout: seconds after which the tools are stopped. progress: show on stderr where they are.
    HardwareError names what is not legal, what is missing, what a tool found wrong, or the tool
    whose time was over.
    """
    check(place=place, liberty=liberty, clock_mhz=clock_mhz, seed=seed, timeout=timeout)
    library = None if liberty is None else Path(liberty)
    run = _Run(folder, _target(target, place, library), target, library)
    run.work.mkdir(parents=True, exist_ok=True)
    with _Status(target, progress) as status:
        run.watch = Watch(timeout, status.show)
        layers = run.layers()
        timing = run.timing(clock_mhz, seed) if place else None
    return Synthesis(
        target,
        run.top,
        reduce(Resources.__add__, layers.values()),
        layers,
        timing.frequency_mhz if timing else None,
        timing.critical_path if timing else None,
        {tool.name: tool.version for tool in (YOSYS, NEXTPNR)[: 1 + place]},
        run.work / "yosys.log",
    )


class _Run:
    """A folder and a target; results are kept beside the logs with a hash of what they are of."""

    def __init__(self, folder: Path, target: Target, name: str, liberty: Path | None) -> None:
        emitted = Emitted.read(folder)
        self.folder = emitted.folder
        self.top = emitted.top
        self.sources = emitted.sources
        self.target = target
        self.liberty = liberty and liberty.resolve()
        self.work = self.folder / "synth" / name
        self.netlist = self.work / "netlist.json"
        self.watch = Watch()
        self.key = self._key()

    def layers(self) -> dict[str, Resources]:
        """What each layer uses."""
        found = _kept(self.work / "resources.json", self.key, self._count)
        return {layer: Resources(**used) for layer, used in found.items()}

    def timing(self, clock_mhz: float, seed: int) -> Timing:
        """The speed of the placed design."""
        key = f"{self.key} {clock_mhz} {seed} {NEXTPNR.version}"
        found = _kept(self.work / "placement.json", key, lambda: self._place(clock_mhz, seed))
        return Timing(found["frequency_mhz"], CriticalPath(**found["critical_path"]))

    def _count(self) -> dict[str, dict[str, float]]:
        run_yosys(self._script(), self.folder, self.work / "yosys.log", self.watch)
        netlist = read_netlist(self.netlist, self.top)
        library = self.liberty and library_costs(self.netlist, self.liberty)
        costs = library or self.target.cells
        used = count(netlist, costs, layers_of(netlist))
        return {layer: asdict(resources) for layer, resources in used.items()}

    def _place(self, clock_mhz: float, seed: int) -> dict[str, Any]:
        netlist = read_netlist(self.netlist, self.top)
        layers = layers_of(netlist)
        where = self.folder, self.work, self.top, netlist, layers
        return asdict(place_netlist(*where, clock_mhz, seed, self.watch))

    def _script(self) -> str:
        reads = "".join(f"read_verilog -sv {source}\n" for source in self.sources)
        mapping = self.target.script if self.liberty is None else WITH_LIBERTY
        chosen = "-selected " if self.liberty is None else ""
        return (
            reads
            + mapping.format(top=self.top, liberty=f'"{self.liberty}"')
            + f"select {self.top}\ncheck -assert\n"
            + f"write_json {chosen}{self.netlist.relative_to(self.folder)}\n"
        )

    def _key(self) -> str:
        """A hash of all that the netlist depends on."""
        files = [self.folder / source for source in self.sources]
        files += sorted((self.folder / "mem").glob("*.mem"))
        files += [] if self.liberty is None else [self.liberty]
        digest = sha256(f"{YOSYS.version}\n{self._script()}".encode())
        for file in files:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()


class _Status:
    """A line on stderr while tools run: which one, for how long, and the last line of its log."""

    def __init__(self, target: str, on: bool) -> None:
        self._progress = Progress(
            TextColumn(f"synthesise for {target}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            disable=not on,
            transient=True,
        )
        self._task = self._progress.add_task("")

    def __enter__(self) -> _Status:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, name: str, log: Path) -> None:
        """Redraw the line."""
        self._progress.update(self._task, description=f"{name}: {_last_line(log)[:_SHOWN]}")


_SHOWN = 44  # characters of a line, of the 80 of a terminal
_TAIL = 2000


def _last_line(log: Path) -> str:
    """The last whole line of a log that says anything."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")[:-1]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _kept(file: Path, key: str, make: Callable[[], Any]) -> Any:
    """What `file` keeps for this key, else what `make` makes, which it then keeps."""
    if file.exists() and (kept := json.loads(file.read_text()))["key"] == key:
        return kept["result"]
    result = make()
    file.write_text(json.dumps({"key": key, "result": result}, indent=1))
    return result


def _target(name: str, place: bool, liberty: Path | None) -> Target:
    if not isinstance(name, str) or name not in TARGETS:
        raise HardwareError(f"no target {name!r}: choose one of {', '.join(TARGETS)}")
    if place and not TARGETS[name].places:
        placed = ", ".join(n for n, target in TARGETS.items() if target.places)
        raise HardwareError(f"place=True is for the target {placed}, not {name!r}: leave it out")
    if liberty is not None and name != "gates":
        raise HardwareError(f"liberty={str(liberty)!r} is for the target gates, not {name!r}")
    if liberty is not None and not liberty.is_file():
        raise HardwareError(f"liberty={str(liberty)!r} is no file: give a cell library (.lib)")
    return TARGETS[name]
