"""Lint the emitted SystemVerilog with Verilator and slang."""

from pathlib import Path

from quire.hardware.emitted import Emitted
from quire.hardware.toolchain import run_slang, run_verilator


def lint(folder: Path) -> None:
    """Check an emitted folder with `verilator --lint-only -Wall` and with slang.

    Raises HardwareError at the first tool that reports anything, warnings included; the logs are
    `logs/lint-verilator.log` and `logs/lint-slang.log` in the folder.
    """
    emitted = Emitted.read(folder)
    run_verilator(
        ["--lint-only", "-Wall", "--top", emitted.top, *emitted.sources],
        emitted.folder,
        emitted.log("lint-verilator"),
    )
    run_slang(
        # A width cast that changes nothing for these parameters does for others.
        ["--top", emitted.top, "-Wextra", "-Werror", "-Wno-useless-cast", *emitted.sources],
        emitted.folder,
        emitted.log("lint-slang"),
    )
