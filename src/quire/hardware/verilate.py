"""Build the simulator of an emitted folder: Verilator's C++ of the top, and the harness.

A simulator is one executable, kept in the cache under the hash of all that it is made of.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from quire.hardware.emitted import Emitted
from quire.hardware.toolchain import (
    VERILATOR,
    cache_folder,
    compiler_version,
    native_target,
    run,
    run_make,
    run_verilator,
    verilator_root,
)

_PREFIX = "Vmodel"  # the class that harness.cpp drives
_PORT_WIRES = ("tdata", "tvalid", "tready", "tlast")
_OPTIONS = (
    *("--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "unique"),
    *("-Wno-fatal", "-Werror-USERERROR", "-Werror-USERFATAL", "--prefix", _PREFIX),
)
_RUNTIME = ("verilated.cpp", "verilated_dpi.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp")
# The harness says what happens at $error, at a fatal error and at a warning such as a missing file.
_HOOKS = ("-DVL_USER_STOP", "-DVL_USER_FATAL", "-DVL_USER_WARN")
_SOURCES = ("harness.cpp", "signs.h")


@dataclass(frozen=True)
class Build:
    """How a simulator is made: options of Verilator, flags of g++, what it shows of each stream."""

    verilator: tuple[str, ...]
    compiler: tuple[str, ...]
    wires: tuple[str, ...]
    tuned: bool = False  # for this processor, and with signs.h
    parallel: bool = True


QUICK = Build(("--assert",), ("-O0",), ("data", "valid", "ready"), parallel=False)
"""Built in a tenth of the time, as one file; a cycle takes several times longer."""

CHECKED = Build(("--assert",), ("-O3",), ("data", "valid", "ready"))
"""Runs long, with the assertions of the cells and with the data of the streams inside."""

FAST = Build(
    ("--no-assert",),
    # A straight line of thousands of instructions runs at the pace at which they are read: these
    # leave out what makes it longer and gains nothing there.
    ("-O3", "-fno-tree-slp-vectorize", "-fno-tree-pre", "-fno-gcse", "-DQUIRE_FAST"),
    ("valid", "ready"),
    tuned=True,
)
"""Runs fastest: no assertions, and for this processor (docs/decisions/0022-simulation-speed.md)."""


def build_simulator(emitted: Emitted, build: Build, *, waveform: bool = False) -> Path:
    """The simulator's executable, built unless the cache has it; HardwareError if it cannot be.

    Instead of a QUICK one, a CHECKED one of the cache will do.
    """
    VERILATOR.require()
    wanted = _Simulator.of(emitted, build, waveform)
    longer = _Simulator.of(emitted, CHECKED, waveform) if build == QUICK else wanted
    for simulator in (longer, wanted):
        if simulator.path.exists():
            return simulator.path
    wanted.make(emitted)
    return wanted.path


@dataclass(frozen=True)
class _Simulator:
    """What a simulator is made of, and where it is kept."""

    files: dict[str, bytes]
    options: tuple[str, ...]
    settings: dict[str, str]
    included: str
    path: Path

    @classmethod
    def of(cls, emitted: Emitted, build: Build, waveform: bool) -> "_Simulator":
        """What `build` makes of a folder."""
        folder = files("quire.hardware")
        made = {name: folder.joinpath(name).read_bytes() for name in _SOURCES}
        made["wires.vlt"] = _public_wires(emitted, build.wires).encode()
        trace = ("--trace-vcd",) if waveform else ()
        options = (*_OPTIONS, *build.verilator, *trace, "--top", emitted.top)
        native = native_target() if build.tuned else ""
        flags = (*build.compiler, *(("-march=native",) if native else ()))
        settings = {"OPT_FAST": " ".join(flags)}
        if not build.parallel:
            settings |= {"OPT_GLOBAL": "-O0", "VM_PARALLEL_BUILDS": "0"}
        parts = [(name, (emitted.folder / name).read_bytes()) for name in emitted.sources]
        parts += made.items()
        included = '#include "signs.h"\n' if build.tuned else ""
        parts += [("made", repr((options, settings, included, native)).encode())]
        path = _folder() / f"simulator-{_hash(*parts)}"
        return cls(made, options, settings, included, path)

    def make(self, emitted: Emitted) -> None:
        """Build it."""
        runtime = _runtime()
        with tempfile.TemporaryDirectory(dir=_folder()) as name:
            work = Path(name)
            for file, content in self.files.items():
                (work / file).write_bytes(content)
            given = [str(work / "wires.vlt"), str(work / "harness.cpp"), *emitted.sources]
            given += ["--Mdir", str(work), "-o", "simulator"]
            run_verilator([*self.options, *given], emitted.folder, emitted.log("verilator"))
            header = work / f"{_PREFIX}__pch.h"  # what all generated C++ includes
            header.write_text(header.read_text() + self.included)
            settings = {"VK_GLOBAL_OBJS": "", "LIBS": str(runtime), **self.settings}
            run_make(work / f"{_PREFIX}.mk", "simulator", settings, emitted.log("make"))
            # Whole or not at all: others may build it too.
            os.replace(work / "simulator", self.path)


def _public_wires(emitted: Emitted, wires: tuple[str, ...]) -> str:
    """A configuration file that keeps by name the wires that the harness reads."""
    ports = [f"{p.port}_{w}" for p in emitted.inputs + emitted.outputs for w in _PORT_WIRES]
    inner = [f"{stream}_{wire}" for stream in emitted.streams for wire in wires]
    lines = [f'public_flat_rd -module "{emitted.top}" -var "{wire}"' for wire in ports + inner]
    return "\n".join(["`verilator_config", *lines, ""])


def _runtime() -> Path:
    """Verilator's run-time library, the longer half of a build; compiled once."""
    include = verilator_root() / "include"
    command = ["g++", "-O2", "-c", f"-I{include}", f"-I{include / 'vltstd'}", *_HOOKS]
    target = _folder() / f"runtime-{_hash(('command', repr(command).encode()))}.a"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=_folder()) as name:
        work = Path(name)
        sources = [str(include / source) for source in _RUNTIME]
        log = _folder() / "runtime.log"
        run("g++ (Verilator's run-time library)", [*command, *sources], work, log)
        objects = [Path(source).with_suffix(".o").name for source in _RUNTIME]
        run("ar", ["ar", "rcs", "runtime.a", *objects], work, log)
        os.replace(work / "runtime.a", target)
    return target


def _folder() -> Path:
    folder = cache_folder() / "verilator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _hash(*parts: tuple[str, bytes]) -> str:
    """Of named contents, and of the versions of Verilator and the compiler."""
    digest = hashlib.sha256(f"{VERILATOR.version}\n{compiler_version()}\n".encode())
    for name, content in parts:
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]
