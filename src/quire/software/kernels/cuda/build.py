"""Building CUDA sources of this folder for the device at hand, once, into a cache on disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from quire.errors import KernelError

SOURCES = Path(__file__).parent
# Without NDEBUG, asserts in CuTe make ptxas serialise wgmma (warning C7510, an error here). Unique
# symbols would share the statics of one kernel's host code with every other kernel that is loaded.
HOST = "-Xcompiler=-fPIC,-fno-gnu-unique"
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "-shared", HOST)
TIMEOUT = 600  # seconds; a kernel takes about 10


def cache_folder() -> Path:
    """Where built kernels are kept: $QUIRE_CACHE, or quire/ in the user's cache folder."""
    chosen = os.environ.get("QUIRE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quire"


@cache
def compiler() -> str:
    """The path of nvcc: of $CUDA_HOME, on PATH, or of the nvidia-cuda-nvcc package.

    Raises `KernelError` that says how to get one.
    """
    folders = [Path(os.environ["CUDA_HOME"]) / "bin"] if "CUDA_HOME" in os.environ else []
    spec = find_spec("nvidia")
    packages = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    folders += [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep)]
    folders += [Path("/usr/local/cuda/bin"), *(bin for p in packages for bin in p.glob("*/bin"))]
    found = next((str(f / "nvcc") for f in folders if os.access(f / "nvcc", os.X_OK)), None)
    if found is None:
        raise KernelError(
            "no nvcc: neither in $CUDA_HOME/bin nor on PATH. Quire builds its CUDA kernels for the"
            " device at hand: install CUDA 12.5 or newer, or `pip install nvidia-cuda-nvcc`"
        )
    return found


@cache
def headers() -> Path:
    """The folder of CuTe's headers, of the nvidia-cutlass package; raises `KernelError`."""
    spec = find_spec("cutlass_library")
    roots = spec.submodule_search_locations or () if spec else ()
    found = next((p for r in roots if (p := Path(r) / "source" / "include").is_dir()), None)
    if found is None:
        raise KernelError("no CuTe headers: `pip install 'nvidia-cutlass>=4.2'`, or 'quire[gpu]'")
    return found


@cache
def can_build() -> bool:
    """Whether a source builds on this machine; says once why not where a GPU is.

    It builds one (about 3 s, then it is kept), since an nvcc without a host compiler that it
    accepts is as good as none.
    """
    try:
        return build("probe.cu", {}, "80").exists()
    except KernelError as error:
        if torch.cuda.is_available():
            warnings.warn(f"slower Triton kernels run instead of CUDA: {error}", stacklevel=2)
        return False


def command(source: str, defines: Mapping[str, object], arch: str, output: Path) -> list[str]:
    """The call of nvcc that builds a source for an architecture such as "90a"."""
    target = f"-gencode=arch=compute_{arch},code=[sm_{arch},compute_{arch}]"
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    paths = [f"-I{headers()}", "-o", str(output), str(SOURCES / source)]
    return [compiler(), *FLAGS, target, *macros, *paths]


def build(source: str, defines: Mapping[str, object], arch: str) -> Path:
    """The shared library of a source with its macros; built where the cache has none.

    Another compiler or CuTe does not build anew what is there; removing the folder does.
    Raises `KernelError` with the end of the compiler's output.
    """
    library = cache_folder() / "cuda" / f"{Path(source).stem}-{_key(source, defines, arch)}.so"
    if library.exists():
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            _run(command(source, defines, arch, made), source)
            shutil.move(made, library)  # whole or not at all, whoever else builds it too
    except OSError as error:
        raise KernelError(
            f"{source}: cannot be built into {library.parent}: {error}; $QUIRE_CACHE names"
            " another folder"
        ) from error
    return library


def _key(source: str, defines: Mapping[str, object], arch: str) -> str:
    """What decides a library, wherever the compiler and the headers lie."""
    files = [SOURCES / source, *sorted(SOURCES.glob("*.cuh"))]
    macros = [f"{name}={value}" for name, value in defines.items()]
    parts = [*FLAGS, arch, *macros, *(path.read_text(encoding="utf-8") for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _run(call: list[str], source: str) -> None:
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise KernelError(f"{source}: nvcc took more than {TIMEOUT} s and was stopped") from None
    said = done.stdout + done.stderr
    if done.returncode or "C7510" in said:
        raise KernelError(f"{source}: nvcc failed:\n{said[-2000:]}")


@cache
def load(library: Path) -> ctypes.CDLL:
    """A built library, loaded."""
    return ctypes.CDLL(str(library))
