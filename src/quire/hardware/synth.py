"""Synthesise an emitted folder with Yosys: what it uses, in all and by layer, and on request its
speed as placed by nextpnr.

Logs, scripts and netlists stay in `synth/<target>/` of the folder, results too: the same sources,
memories, options and tools are not synthesised twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from quire.errors import HardwareError
from quire.hardware.emitted import Emitted
from quire.hardware.netlist import Resources, count, layers_of, read_netlist
from quire.hardware.place import CriticalPath, Timing
from quire.hardware.place import place as place_netlist
from quire.hardware.targets import TARGETS, WITH_LIBERTY, Target, library_costs
from quire.hardware.toolchain import NEXTPNR, YOSYS, run_yosys


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
    liberty: Path | None = None,
    clock_mhz: float = 200.0,
    seed: int = 1,
) -> Synthesis:
    """Synthesise the design in `folder` (with its manifest.json) for a target.

    target: "xc7" (7 series), "xcup" (UltraScale+), "ecp5", or "gates" (two-input NANDs of the same
    area, from transistor counts, or from the areas of the cells in `liberty`).
    place: also place the design, with `seed`, for a clock of `clock_mhz`; only on "ecp5".
    HardwareError names what is not legal, what is missing, or what a tool found wrong.
    """
    run = _Run(folder, _target(target, place, liberty), target, liberty)
    run.work.mkdir(parents=True, exist_ok=True)
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
        run_yosys(self._script(), self.folder, self.work / "yosys.log")
        netlist = read_netlist(self.netlist, self.top)
        library = self.liberty and library_costs(self.netlist, self.liberty)
        costs = library or self.target.cells
        used = count(netlist, costs, layers_of(netlist))
        return {layer: asdict(resources) for layer, resources in used.items()}

    def _place(self, clock_mhz: float, seed: int) -> dict[str, Any]:
        netlist = read_netlist(self.netlist, self.top)
        layers = layers_of(netlist)
        timing = place_netlist(self.folder, self.work, self.top, netlist, layers, clock_mhz, seed)
        return asdict(timing)

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


def _kept(file: Path, key: str, make: Callable[[], Any]) -> Any:
    """What `file` keeps for this key, else what `make` makes, which it then keeps."""
    if file.exists() and (kept := json.loads(file.read_text()))["key"] == key:
        return kept["result"]
    result = make()
    file.write_text(json.dumps({"key": key, "result": result}, indent=1))
    return result


def _target(name: str, place: bool, liberty: Path | None) -> Target:
    if name not in TARGETS:
        raise HardwareError(f"no target {name!r}: choose one of {', '.join(TARGETS)}")
    if place and not TARGETS[name].places:
        placed = ", ".join(n for n, target in TARGETS.items() if target.places)
        raise HardwareError(f"place=True is for the target {placed}, not {name!r}: leave it out")
    if liberty is not None and name != "gates":
        raise HardwareError(f"liberty={str(liberty)!r} is for the target gates, not {name!r}")
    if liberty is not None and not liberty.is_file():
        raise HardwareError(f"liberty={str(liberty)!r} is no file: give a cell library (.lib)")
    return TARGETS[name]
