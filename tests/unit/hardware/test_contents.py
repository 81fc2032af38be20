"""The files of an emitted folder: what was changed does not load, and nothing is lost."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import quire
from quire.errors import HardwareError
from quire.hardware import Design
from quire.hardware.contents import write


def quantized(sizes: tuple[int, int], format: str = "fixed(8,4)") -> GraphModule:
    torch.manual_seed(0)
    x = (torch.randn(2, sizes[0]),)
    graph = quire.capture(nn.Sequential(nn.Linear(*sizes), nn.ReLU()), x)
    plan = {**quire.Plan.uniform(graph, format), "input.input_1": format, "output.0": format}
    return quire.quantize(graph, quire.Plan(plan))


@pytest.fixture
def design(tmp_path: Path) -> Design:
    return quire.emit(quantized((6, 5)), tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def refused(folder: Path) -> str:
    """The message of a folder that does not load."""
    with pytest.raises(HardwareError) as caught:
        Design.load(folder)
    return str(caught.value)


LOADED = ["rtl/top.sv", "rtl/stage_m0.sv", "rtl/quire_linear.sv", "mem/m0__weight.mem"]


@pytest.mark.parametrize("path", [*LOADED, "design.json"])
def test_a_changed_or_missing_file_does_not_load(design: Design, path: str):
    assert design.folder is not None
    file = design.folder / path
    text = file.read_text()
    file.write_text(f"{text}\n")
    message = refused(design.folder)
    assert message.startswith(f"'{file}' was changed since quire.emit wrote it: emit again")
    assert f"`make` in '{design.folder}' simulates it as it is" in message
    file.unlink()
    assert refused(design.folder).startswith(f"'{file}' is lacking, though quire.emit wrote it")
    file.write_text(text)
    assert Design.load(design.folder) == design


def test_what_a_design_is_not_made_of_may_change(design: Design):
    assert design.folder is not None
    for path in ("fpga/clock.xdc", "README.txt", "tb/bench.py", "rtl/mine.sv"):
        (design.folder / path).write_text("mine")
    assert Design.load(design.folder) == design


@pytest.mark.parametrize("manifest", [None, "", "[]", "{}", '{"hashes": 3}'])
def test_a_folder_of_something_else_is_neither_loaded_nor_written(
    tmp_path: Path, manifest: str | None
):
    (tmp_path / "design.json").write_text("{}")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    before = contents(tmp_path)
    assert refused(tmp_path) == f"'{tmp_path}' is not a folder that quire.emit wrote: name one"
    with pytest.raises(HardwareError, match=r"holds files that quire\.emit did not write: name"):
        quire.emit(quantized((6, 5)), tmp_path)
    assert contents(tmp_path) == before


def test_emitting_again_replaces_what_it_wrote_and_keeps_the_rest(design: Design, tmp_path: Path):
    folder = tmp_path / "out"
    mine = {f"{place}/mine.txt": b"mine" for place in ("rtl", "mem", "tb", "fpga", "logs", "synth")}
    mine |= {"mine.txt": b"mine", "tb/vectors/mine/x.bin": b"mine"}
    for path, content in mine.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    q = quantized((4, 3), "fixed(4,2)")
    quire.emit(q, folder, name="other", vectors=torch.zeros(1, 4))
    quire.emit(q, folder, name="other")
    quire.emit(q, tmp_path / "fresh", name="other")
    assert contents(folder) == {**contents(tmp_path / "fresh"), **mine}
    assert not (folder / "tb" / "vectors" / "samples").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("rtl/stage_m0.sv", "top"),  # would be overwritten
        ("rtl/top.sv", "other"),  # would be removed
        ("rtl/other.sv", "other"),  # was never written by emit
        ("tb/vectors/random/s_axis_input_1.bin", "top"),
    ],
)
def test_emitting_again_would_lose_what_was_changed(
    design: Design, tmp_path: Path, path: str, name: str
):
    folder = tmp_path / "out"
    with (folder / path).open("a") as file:
        file.write("mine")
    before = contents(folder)
    with pytest.raises(HardwareError) as caught:
        quire.emit(quantized((4, 3)), folder, name=name)
    assert str(caught.value) == (
        f"'{folder / path}' is not as quire.emit wrote it, and would be lost: move it elsewhere or "
        "delete it, or name another folder"
    )
    assert contents(folder) == before
    (folder / path).unlink()
    assert quire.emit(quantized((4, 3)), folder, name=name) == Design.load(folder)


def test_the_same_design_again_writes_no_file_and_mends_half_of_one(design: Design, tmp_path: Path):
    folder = tmp_path / "out"
    before = {path: (folder / path).stat().st_mtime_ns for path in contents(folder)}
    quire.emit(quantized((6, 5)), folder)
    assert {path: (folder / path).stat().st_mtime_ns for path in contents(folder)} == before
    written = contents(folder)
    (folder / "rtl" / "top.sv").unlink()
    quire.emit(quantized((6, 5)), folder)
    assert contents(folder) == written


def test_a_manifest_that_names_files_elsewhere_removes_none(tmp_path: Path):
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    hashes = {"../mine.txt": sha256(b"mine").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"hashes": hashes}))
    write(folder, {"manifest.json": b"{}"})
    assert other.read_text() == "mine"


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/it"])
def test_a_path_at_or_below_a_file_is_refused_before_anything_is_made(tmp_path: Path, path: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HardwareError, match="is a file") as caught:
        quire.emit(quantized((6, 5)), tmp_path / path)
    assert str(tmp_path / path) in str(caught.value)
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    with pytest.raises(HardwareError, match=r"'/proc/out' cannot be written"):
        write(Path("/proc/out"), {"a": b""})
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(HardwareError, match="not yours to write"):
            write(tmp_path / "out", {"a": b""})
