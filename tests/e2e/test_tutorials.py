"""The tutorials' code blocks parse; nightly they run, in order, in a folder of their own.

A block that begins with a comment of a file's name is that file, or with "add to", is added to its
end; the other blocks of Python are one script, which runs before the shell blocks. A block of text
right below one of Python is what that prints, but for figures that another machine may not have:
those with a decimal point, and LUT and FF, which depend on trained weights.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"(?:#|//) (add to )?([\w/.]+\.(?:py|sv|cu))\n")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    output: str | None
    """What it prints, as the page says."""

    @property
    def file(self) -> str | None:
        """The file that the block is, if it is one."""
        found = NAME.match(self.text)
        return found[2] if found else None

    @property
    def is_added(self) -> bool:
        """Whether it goes to the end of a file that is there."""
        found = NAME.match(self.text)
        return bool(found and found[1])

    def write(self, folder: Path) -> None:
        assert self.file is not None
        target = folder / self.file
        assert target.exists() == self.is_added, f"line {self.line}: is {self.file} there?"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a") as file:
            file.write(f"\n\n{self.text}" if self.is_added else self.text)


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for found in BLOCK.finditer(text):
        below = BLOCK.match(text, found.end() + 1)
        is_run = found[1] == "python" and below is not None and below[1] == "text"
        output = below[2] if is_run else None
        yield Block(found[1], found[2], text[: found.start()].count("\n") + 1, output)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_blocks_of_a_tutorial_parse(path: Path) -> None:
    found = list(blocks(path))
    assert {block.language for block in found} <= {"python", "systemverilog", "cpp", "sh", "text"}
    assert path.read_text().count("```") == 2 * len(found)
    python = [block for block in found if block.language == "python"]
    assert len(python) >= 4
    for block in python:
        ast.parse(block.text, filename=f"{path}:{block.line}")
        assert max(map(len, block.text.splitlines())) <= 100
    assert all(block.file for block in found if block.language in ("systemverilog", "cpp"))
    assert "@" not in re.sub(r"^\s*@\w.*$|[\w.]+@[\w.]+|::@\w+", "", path.read_text(), flags=re.M)


END = "==== end of a block ===="


def comparable(text: str) -> list[str]:
    """The lines of an output without the figures that another machine may not have."""
    masked = re.sub(r"\d+\.\d+|(LUT|FF)=\d+", "#", text)
    return [line.rstrip() for line in masked.splitlines()]


def test_figures_of_another_machine_are_not_compared():
    assert comparable("interval 191.9 (192)\nR(LUT=12, FF=3, DSP=4) \n") == [
        "interval # (192)",
        "R(#, #, DSP=4)",
    ]


@pytest.mark.nightly
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    """In a copy of the sources, which a tutorial may change."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "quire", source / "quire")
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{tmp_path}"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script: list[str] = []
    outputs: list[str | None] = []
    shell: list[str] = []
    for block in blocks(path):
        if block.file is not None:
            block.write(tmp_path)
        elif block.language == "python":
            script.append(f"{block.text}\nprint({END!r}, flush=True)\n")
            outputs.append(block.output)
        elif block.language == "sh":
            shell.append(block.text)
    (tmp_path / "tutorial.py").write_text("\n".join(script))
    commands = [[sys.executable, "-W", "error", "tutorial.py"], ["sh", "-e", "-c", "".join(shell)]]
    for command in commands[: 1 + bool(shell)]:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "none differs" in done.stdout
        if "tutorial.py" in command:
            printed = done.stdout.split(f"{END}\n")
            for said, found in zip(outputs, printed, strict=False):
                assert said is None or comparable(found) == comparable(said)
            assert len(printed) == len(outputs) + 1
