"""Build the simulator of an emitted folder: Verilator's C++ of the top, and the harness.

A simulator is one executable, kept in the cache under the hash of all that it is made of.
"""

import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from quire.hardware.emitted import Emitted
from quire.hardware.toolchain import (
    VERILATOR,
    cache_folder,
    compiler_version,
    run,
    run_make,
    run_verilator,
    verilator_root,
)

_PREFIX = "Vmodel"  # the class that harness.cpp drives
_PORT_WIRES = ("tdata", "tvalid", "tready", "tlast")
_STREAM_WIRES = ("data", "valid", "ready")
_OPTIONS = (
    *("--cc", "--exe", "-O3", "--assert", "--x-assign", "fast", "--x-initial", "unique"),
    *("-Wno-fatal", "-Werror-USERERROR", "-Werror-USERFATAL", "--prefix", _PREFIX),
)
_RUNTIME = ("verilated.cpp", "verilated_dpi.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp")
# The harness says what happens at $error, at a fatal error and at a warning such as a missing file.
_HOOKS = ("-DVL_USER_STOP", "-DVL_USER_FATAL", "-DVL_USER_WARN")


_COMPILERS: dict[str, dict[str, str]] = {
    "fast": {},
    "quick": {"OPT_FAST": "-O0", "OPT_GLOBAL": "-O0", "VM_PARALLEL_BUILDS": "0"},
}
"""Settings of make: for a simulator that runs long, and for one that is built in a tenth of the
time, as one file, and takes several times longer a cycle."""


def build_simulator(emitted: Emitted, *, waveform: bool, quick: bool = False) -> Path:
    """The simulator's executable, built unless the cache has it; HardwareError if it cannot be.

    quick: build it in the least time, for a short run; one that was built to run fast will do too.
    """
    VERILATOR.require()
    options = (*_OPTIONS, *(("--trace-vcd",) if waveform else ()), "--top", emitted.top)
    harness = files("quire.hardware").joinpath("harness.cpp").read_bytes()
    wires = _public_wires(emitted)
    parts = [(name, (emitted.folder / name).read_bytes()) for name in emitted.sources]
    parts += [("harness", harness), ("wires", wires.encode()), ("options", repr(options).encode())]
    fast, target = (
        _folder() / f"simulator-{_hash(*parts, ('compiler', repr(settings).encode()))}"
        for settings in (_COMPILERS["fast"], _COMPILERS["quick" if quick else "fast"])
    )
    if fast.exists() or target.exists():
        return fast if fast.exists() else target
    runtime = _runtime()
    with tempfile.TemporaryDirectory(dir=_folder()) as name:
        work = Path(name)
        (work / "harness.cpp").write_bytes(harness)
        (work / "wires.vlt").write_text(wires)
        given = [str(work / "wires.vlt"), str(work / "harness.cpp"), *emitted.sources]
        given += ["--Mdir", str(work), "-o", "simulator"]
        run_verilator([*options, *given], emitted.folder, emitted.log("verilator"))
        compiler = _COMPILERS["quick" if quick else "fast"]
        settings = {"VK_GLOBAL_OBJS": "", "LIBS": str(runtime), **compiler}
        run_make(work / f"{_PREFIX}.mk", "simulator", settings, emitted.log("make"))
        os.replace(work / "simulator", target)  # whole or not at all: others may build it too
    return target


def _public_wires(emitted: Emitted) -> str:
    """A configuration file that keeps by name the wires that the harness reads."""
    ports = [f"{p.port}_{w}" for p in emitted.inputs + emitted.outputs for w in _PORT_WIRES]
    inner = [f"{stream}_{wire}" for stream in emitted.streams for wire in _STREAM_WIRES]
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
