"""The file of a checkpoint: safetensors with a JSON record, a digest of each tensor, whole or not
at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from quire.errors import CheckpointError
from quire.precision.rows import Shape

VERSION = 1
DIGEST_SIZE = 16
RECORD = "plan and inputs"  # the name of their digest, among those of the tensors

# Names of dtypes in a safetensors header.
DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


@dataclass(frozen=True)
class TensorSpec:
    """Dtype and shape of a tensor in a file."""

    dtype: torch.dtype
    shape: Shape

    @staticmethod
    def of(tensor: Tensor) -> TensorSpec:
        return TensorSpec(tensor.dtype, tuple(tensor.shape))

    @cached_property
    def nbytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def __str__(self) -> str:
        return f"{DTYPES[self.dtype]}{list(self.shape)}"


def write(
    path: Path, tensors: Mapping[str, Tensor], plan: dict[str, Any], inputs: Mapping[str, Any]
) -> None:
    """Write contiguous CPU tensors, a plan and inputs; on failure `path` is as it was."""
    digests = {name: _digest(name, tensor) for name, tensor in tensors.items()}
    digests[RECORD] = _digest_record(plan, inputs)
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: there is no directory {path.parent}; create it first")
    if path.is_dir():
        raise CheckpointError(f"{path}: this is a directory; name a file")
    data = save(dict(tensors), {"quire": _record(plan, inputs, digests)})
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record {plan, inputs} of a file that `write` made, their digests checked.

    Raises `CheckpointError` that names the file, and the tensor that is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    header, start = _header(path, data)
    try:
        for name, entry in header.items():
            if name != "__metadata__" and start + entry["data_offsets"][1] > len(data):
                raise CheckpointError(f"{path}: truncated: it ends within or before tensor {name}")
        record = json.loads(header["__metadata__"]["quire"])
        tensors = load(data)
        version, digests = record["version"], record["digests"]
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of Quire: {error!r}") from None
    if version != VERSION:
        raise CheckpointError(f"{path}: version {version!r}; this Quire reads version {VERSION}")
    _check_digests(path, tensors, record, digests)
    return tensors, record


def file_size(
    tensors: Mapping[str, TensorSpec], plan: dict[str, Any], inputs: Mapping[str, Any]
) -> int:
    """Bytes of the file that `write` makes of tensors like these.

    A safetensors file is the length of the header in 8 bytes, the header as JSON, padded to a
    multiple of 8, and the tensors (https://huggingface.co/docs/safetensors, "Format").
    """
    digests = dict.fromkeys([*tensors, RECORD], "0" * 2 * DIGEST_SIZE)
    header: dict[str, Any] = {"__metadata__": {"quire": _record(plan, inputs, digests)}}
    end = 0
    for name, spec in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        start, end = end, end + spec.nbytes
        header[name] = {
            "dtype": DTYPES[spec.dtype],
            "shape": spec.shape,
            "data_offsets": (start, end),
        }
    length = len(_json(header).encode())
    return 8 + length + -length % 8 + end


def _record(plan: dict[str, Any], inputs: Mapping[str, Any], digests: dict[str, str]) -> str:
    return _json({"version": VERSION, "plan": plan, "inputs": inputs, "digests": digests})


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors start."""
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < start:
        raise CheckpointError(f"{path}: truncated within its header, or no safetensors file")
    try:
        return json.loads(data[8:start]), start
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged in its header: {error}") from None


def _check_digests(
    path: Path, tensors: Mapping[str, Tensor], record: dict[str, Any], digests: dict[str, str]
) -> None:
    found = {name: _digest(name, tensor) for name, tensor in tensors.items()}
    found[RECORD] = _digest_record(record["plan"], record["inputs"])
    for name in sorted(found.keys() | digests.keys()):
        if found.get(name) != digests.get(name):
            raise CheckpointError(f"{path}: {name} is damaged: its content is not what was saved")


def _digest(name: str, tensor: Tensor) -> str:
    """A digest of the name, dtype, shape and bytes of a tensor."""
    digest = hashlib.blake2b(f"{name} {TensorSpec.of(tensor)}".encode(), digest_size=DIGEST_SIZE)
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest_record(plan: dict[str, Any], inputs: Mapping[str, Any]) -> str:
    return hashlib.blake2b(_json([plan, inputs]).encode(), digest_size=DIGEST_SIZE).hexdigest()
