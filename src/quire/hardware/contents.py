"""The files of an emitted folder against its manifest: written, found changed, and replaced.

Nothing is lost that `emit` did not write: it replaces and removes files that are as it wrote them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from quire.errors import HardwareError

MANIFEST = "manifest.json"

READ = ("rtl/", "mem/", "design.json")
"""How the paths begin of what a loaded design is made of."""


def check_target(folder: Path) -> None:
    """HardwareError unless `write` can put a design there, of those files that `emit` wrote."""
    try:
        if folder.exists() and not folder.is_dir():
            raise HardwareError(f"'{folder}' is a file: name a folder, a new one or an emitted one")
        if folder.exists() and any(folder.iterdir()) and _hashes(folder) is None:
            raise HardwareError(
                f"'{folder}' holds files that quire.emit did not write: name another"
            )
        above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise HardwareError(
                f"'{folder}' cannot be written: '{above}' is a file, or not yours to write; name "
                "another folder"
            )
    except OSError as error:
        raise _unwritable(folder, error) from None


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put the files of a design in the place of those of an earlier one; nothing else is touched.

    files: {relative path: content}. Raises HardwareError, before anything is touched, for a folder
    of something else, and where a file would be lost that `emit` did not write as it is now.
    """
    check_target(folder)
    try:
        known = _hashes(folder) or {}
        _check_ours(folder, known, files)
        for path in known.keys() - files.keys():
            _remove(folder, path)
        for path, content in files.items():
            _put(folder / path, content)
    except OSError as error:
        raise _unwritable(folder, error) from None


def check_unchanged(folder: Path) -> None:
    """HardwareError unless what a design is made of is as `emit` wrote it."""
    known = _hashes(folder)
    if known is None:
        raise HardwareError(f"'{folder}' is not a folder that quire.emit wrote: name one")
    for path, digest in known.items():
        if path.startswith(READ) and _digest(folder / path) != digest:
            what = "was changed since" if (folder / path).exists() else "is lacking, though"
            raise HardwareError(
                f"'{folder / path}' {what} quire.emit wrote it: emit again, into another folder to "
                f"keep this one; `make` in '{folder}' simulates it as it is"
            )


def stamp(folder: Path) -> str:
    """What tells the design in a folder from others: the hash of its manifest."""
    return sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _hashes(folder: Path) -> dict[str, str] | None:
    """{relative path: SHA-256} as `emit` wrote them; None for a folder of something else."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["hashes"]
        inside = folder.resolve()
        return {p: h for p, h in found.items() if (folder / p).resolve().is_relative_to(inside)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _check_ours(folder: Path, known: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    for path in sorted({*known, *files} - {MANIFEST}):
        found = _digest(folder / path)
        ours = (known.get(path), sha256(files[path]).hexdigest() if path in files else None)
        if found is not None and found not in ours:
            raise HardwareError(
                f"'{folder / path}' is not as quire.emit wrote it, and would be lost: move it "
                "elsewhere or delete it, or name another folder"
            )


def _digest(file: Path) -> str | None:
    """The SHA-256 of a file; None where there is none, and "" for what is no file."""
    if not os.path.lexists(file):
        return None
    return sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _remove(folder: Path, path: str) -> None:
    """Remove a file, and the folders that this leaves empty."""
    (folder / path).unlink(missing_ok=True)
    with suppress(OSError):
        for parent in Path(path).parents[:-1]:
            (folder / parent).rmdir()


def _put(file: Path, content: bytes) -> None:
    """Write a file unless it has this content: what did not change is not built again."""
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _unwritable(folder: Path, error: OSError) -> HardwareError:
    return HardwareError(
        f"'{folder}' cannot be written ({error.strerror}): name a folder where files can be made"
    )
