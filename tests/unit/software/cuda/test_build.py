"""Building kernels: what is found, what is kept, and what is said where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quire.errors import KernelError
from quire.software.kernels.cuda import build

SOURCE, MACROS = "mx_cast.cu", {"QUIRE_BITS": 8}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """Nothing found before counts, and nothing is kept after."""
    monkeypatch.setenv("QUIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    cached = (build.compiler, build.headers, build.can_build)
    for found in cached:
        found.cache_clear()
    yield
    for found in cached:
        found.cache_clear()


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Puts a script in Python in place of nvcc, with headers that are a folder."""

    def place(script: str) -> Path:
        program = tmp_path / "cuda" / "bin" / "nvcc"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
        monkeypatch.setattr(build, "headers", lambda: tmp_path)
        return program

    return place


def test_cuda_home_comes_before_the_path(compiler):
    program = compiler("")
    assert build.compiler() == str(program)


def test_without_nvcc_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(KernelError, match=r"no nvcc: .*PATH.*install CUDA .*nvidia-cuda-nvcc"):
        build.compiler()
    assert not build.can_build()


def test_a_machine_with_a_gpu_is_told_why_its_kernels_are_slower(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(build.torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match=r"Triton kernels run instead of CUDA: no nvcc"):
        assert not build.can_build()
    assert not build.can_build()  # and said once


def test_an_nvcc_that_builds_nothing_is_as_good_as_none(compiler, monkeypatch):
    compiler("sys.exit('nvcc fatal: Could not find g++')")
    monkeypatch.setattr(build.torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match=r"Triton kernels run .*probe\.cu: nvcc failed:\n.*g\+\+"):
        assert not build.can_build()


def test_a_folder_that_cannot_be_written_builds_nothing(compiler, monkeypatch, tmp_path):
    compiler("")
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(build.torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match=r"Triton kernels run .*\$QUIRE_CACHE names another"):
        assert not build.can_build()


def test_without_headers_the_message_names_the_package(monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(KernelError, match=r"no CuTe headers: `pip install 'nvidia-cutlass"):
        build.headers()


def test_a_failing_compile_shows_the_end_of_its_output(compiler):
    compiler("print('x' * 5000); sys.exit('element.cuh(7): error: no such thing')")
    with pytest.raises(KernelError, match=r"^mx_cast\.cu: nvcc failed:\n") as raised:
        build.build(SOURCE, MACROS, "90a")
    assert str(raised.value).endswith("element.cuh(7): error: no such thing\n")
    assert len(str(raised.value)) < 2100


def test_a_serialised_wgmma_is_an_error(compiler):
    compiler("print('ptxas info : (C7510) Potential Performance Loss', file=sys.stderr)")
    with pytest.raises(KernelError, match="C7510"):
        build.build(SOURCE, MACROS, "90a")


def test_a_compiler_that_hangs_is_stopped(compiler, monkeypatch):
    compiler("")

    def run(*args, **kwargs):
        raise subprocess.TimeoutExpired("nvcc", kwargs["timeout"])

    monkeypatch.setattr(build.subprocess, "run", run)
    with pytest.raises(KernelError, match=r"mx_cast\.cu: nvcc took more than 600 s"):
        build.build(SOURCE, MACROS, "90a")


def test_a_library_is_built_once_for_each_architecture_and_set_of_macros(compiler, tmp_path):
    log = tmp_path / "log"
    compiler(
        f"open({str(log)!r}, 'a').write('built\\n')\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(sys.argv))"
    )
    first = build.build(SOURCE, MACROS, "90a")
    assert build.build(SOURCE, MACROS, "90a") == first
    assert log.read_text().count("built") == 1
    others = {build.build(SOURCE, MACROS, "80"), build.build(SOURCE, {"QUIRE_BITS": 4}, "90a")}
    assert len(others | {first}) == 3
    assert first.parent == tmp_path / "cache" / "cuda"
    assert sorted(first.parent.iterdir()) == sorted(others | {first})  # nothing half done is left
    call = first.read_text()
    assert "-DQUIRE_BITS=8" in call
    assert "sm_90a" in call


def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("QUIRE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "quire"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build.cache_folder() == Path.home() / ".cache" / "quire"
