"""Attention with casts inside as one op, `quire::attention`: a Triton kernel where one can run it.

Elsewhere, and where a gradient is wanted, it is opened into its products, softmax and casts.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from quire.errors import FormatError
from quire.formats import parse
from quire.ops.mask import causal_mask
from quire.precision.cast import cast
from quire.software.attention_casts import Casts

OLDEST = (8, 0)
"""Compute capability from which on tensor cores multiply bfloat16 and TF32."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    formats: tuple[str | None, str | None, str | None, str | None],
    mask: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> Tensor:
    """softmax(cast(query) @ cast(key)^T * scale, masked), cast, times cast(value).

    query: (b, h, tq, d); key: (b, g, tk, d); value: (b, g, tk, w), where g divides h.
    formats: of query, key (blocks along d), probabilities and value (blocks along the keys); None
        where an operand is taken as it is.
    mask: broadcasts to (b, h, tq, tk); a boolean one is true where a key is visible, another one is
        added to the scores.
    scale: of the scores; default 1 / sqrt(d).
    is_causal: a key is visible to its own query and to later ones.
    Returns (b, h, tq, w) in the dtype of `query`; a row that is masked throughout gives zeros.
    Raises `FormatError` for an unknown format, for shapes that do not go together, and for tensors
    on several devices.

    One kernel, with no tensor of the size of the scores, on a CUDA device and where `problem` has
    none with the formats; otherwise opened, and so where a gradient is wanted.
    """
    _check_shapes(query, key, value)
    _check_devices(query, key, value, mask)
    factor = float(query.shape[-1]) ** -0.5 if scale is None else scale
    operands = (query, key, value) if mask is None else (query, key, value, mask)
    if torch.is_grad_enabled() and any(t.requires_grad for t in operands):
        return opened(query, key, value, mask, formats, factor, is_causal)
    texts = ("" if text is None else text for text in formats)
    return torch.ops.quire.attention(query, key, value, mask, *texts, factor, is_causal)


def opened(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    formats: tuple[str | None, ...],
    scale: float,
    is_causal: bool,
) -> Tensor:
    """What `fused_attention` means: the casts and ops that a quantized graph holds."""
    shared = query.shape[-3] // key.shape[-3]
    query = _cast(query, formats[0], -1)
    key = _cast(key.repeat_interleave(shared, -3), formats[1], -1)
    value = _cast(value.repeat_interleave(shared, -3), formats[3], -2)
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        scores = causal_mask(scores)
    if mask is not None and mask.dtype == torch.bool:
        scores = torch.where(mask, scores, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    probabilities = torch.ops.aten._safe_softmax.default(scores, -1).to(query.dtype)
    return _cast(probabilities, formats[2], -1) @ value


def _cast(x: Tensor, format: str | None, axis: int) -> Tensor:
    return cast(x, format, axis) if format else x


@cache
def casts_of(*formats: str | None) -> Casts:
    """The formats that strings name; None and "" for an operand that is taken as it is."""
    return Casts(*(parse(text) if text else None for text in formats))


def problem(device: torch.device, *formats: str | None) -> str | None:
    """Why attention with these formats does not run in one kernel on a device, or None."""
    if device.type != "cuda":
        return f"the kernel runs on CUDA devices, not on {device.type}"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"the kernel takes compute capability {OLDEST[0]}.{OLDEST[1]} or newer"
    if find_spec("triton") is None:
        return "the kernel needs Triton: pip install 'quire[gpu]'"
    return casts_of(*formats).problem()


@torch.library.custom_op("quire::attention", mutates_args=())
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    query_format: str,
    key_format: str,
    probabilities_format: str,
    value_format: str,
    scale: float,
    is_causal: bool,
) -> Tensor:
    formats = (query_format, key_format, probabilities_format, value_format)
    is_known = all(t.dtype in _DTYPES for t in (query, key, value))
    if not is_known or problem(query.device, *formats):
        result = opened(query, key, value, mask, formats, scale, is_causal)
        return result.contiguous()
    from quire.software.kernels.triton.attention import attention

    with torch.cuda.device_of(query):  # Triton launches on the current device
        return attention(query, key, value, mask, casts_of(*formats), scale, is_causal)


@_attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    query_format: str,
    key_format: str,
    probabilities_format: str,
    value_format: str,
    scale: float,
    is_causal: bool,
) -> Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = [tuple(t.shape) for t in (query, key, value)]
    ranks = {t.ndim for t in (query, key, value)}
    if (
        ranks != {4}
        or key.shape[:3] != value.shape[:3]
        or query.shape[0] != key.shape[0]
        or query.shape[3] != key.shape[3]
        or query.shape[1] % key.shape[1]
    ):
        raise FormatError(
            "attention takes a query (b, h, tq, d), a key (b, g, tk, d) and a value (b, g, tk, w)"
            f" where g divides h, not {', '.join(map(str, shapes))}"
        )


def _check_devices(*operands: Tensor | None) -> None:
    devices = {str(t.device) for t in operands if t is not None}
    if len(devices) > 1:
        raise FormatError(
            f"attention takes its tensors on one device, not on {', '.join(sorted(devices))}:"
            " move them with .to(device)"
        )
