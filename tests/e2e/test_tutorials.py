"""The tutorials' code blocks parse; nightly they run, in order, in a folder of their own.

A block that begins with a comment of a file's name is that file, or with "add to", is added to its
end; the other blocks of Python are one script, which runs before the shell blocks. A block of text
right below one that runs is what that prints, but for figures that another machine may not have:
those with a decimal point, and LUT and FF, which depend on trained weights; of a shell block all
figures, and columns may be wider. A line `...` there stands for any lines.
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
RUN = ("python", "sh")
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
        is_run = found[1] in RUN and below is not None and below[1] == "text"
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


def is_said(found: str, said: str) -> bool:
    """Whether a shell block prints what the page says, `...` there standing for any lines."""
    texts = [
        re.sub(r"\d[\d,.]*(e[+-]?\d+)?", "#", re.sub(r" +", " ", text)) for text in (found, said)
    ]
    printed, expected = ("\n".join(line.rstrip() for line in t.splitlines()) for t in texts)
    pattern = "\n".join(
        r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in expected.splitlines()
    )
    return re.fullmatch(pattern, printed) is not None


def test_what_a_shell_block_prints_may_be_said_in_part():
    said = "trial  loss\n...\nbest plan: plan.json, 12 of 120"
    assert is_said("trial   loss\n7  0.1\n8  1e-05\nbest plan: plan.json, 3 of 110\n", said)
    assert not is_said("trial   loss\n7  0.1\nbest plan: p.json, 3 of 110\n", said)
    assert not is_said("trials  loss\n7  0.1\nbest plan: plan.json, 3 of 110\n", said)


@pytest.mark.nightly
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    """In a copy of the sources, which a tutorial may change."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "quire", source / "quire")
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{tmp_path}"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = list(blocks(path))
    for block in found:
        if block.file is not None:
            block.write(tmp_path)
    python = [block for block in found if block.language == "python" and block.file is None]
    shell = [block for block in found if block.language == "sh"]
    script = "\n".join(f"{block.text}\nprint({END!r}, flush=True)\n" for block in python)
    (tmp_path / "tutorial.py").write_text(script)
    ended = "".join(f"{block.text}\necho '{END}'\n" for block in shell)
    commands = [[sys.executable, "-W", "error", "tutorial.py"], ["sh", "-e", "-c", ended]]
    printed: list[list[str]] = []
    for command in commands:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        printed.append(done.stdout.split(f"{END}\n"))
    assert [len(texts) - 1 for texts in printed] == [len(python), len(shell)]
    for block, text in zip(python, printed[0], strict=False):
        assert block.output is None or comparable(text) == comparable(block.output)
    for block, text in zip(shell, printed[1], strict=False):
        assert block.output is None or is_said(text, block.output), f"line {block.line}:\n{text}"
    for texts, ran in zip(printed, (python, shell), strict=True):
        assert not ran or "none differs" in "".join(texts)
