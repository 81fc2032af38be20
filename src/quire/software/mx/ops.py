"""The ops `quire::mx_quantize`, `mx_dequantize`, `mx_linear` and `mx_linear_tiled`.

Each looks its kernel up in `quire.software.kernels`. Formats are strings, which an op can take; see
`quire.software.mx.layout` for the formats and for the layout of codes and scales.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from quire.errors import FormatError, KernelError
from quire.formats import Block
from quire.software.kernels import LAYOUTS, PLAIN, Weight, case_of, load_providers, select
from quire.software.mx.layout import format_of, row_blocks, row_bytes

aten = torch.ops.aten

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@torch.library.custom_op("quire::mx_quantize", mutates_args=())
def mx_quantize(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    """The codes and scales of `x` (..., k) along its last axis, as `Format.encode` gives them.

    x: float32, bfloat16 or float16 with at least one axis. A block that holds NaN or Inf has the
        scale 255 (NaN), and codes that mean nothing.
    Returns codes (..., ceil(k * bits / 8)) and scales (..., ceil(k / size)), both uint8.
    Raises `FormatError` for another dtype, and for a format without the plain layout.
    """
    fmt = _checked(x, format)
    rows = _rows(x)
    m, k = rows.shape
    kernel = select("mx_quantize", case_of(x.device, fmt, m, 0, k, x.dtype))
    assert kernel is not None
    with _device_of(x):
        codes, scales = kernel.run(rows, fmt)
    shape = x.shape[:-1]
    return codes.reshape(*shape, codes.shape[1]), scales.reshape(*shape, scales.shape[1])


@mx_quantize.register_fake
def _(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    fmt = _checked(x, format)
    *rows, k = x.shape
    sizes = (row_bytes(fmt, k), row_blocks(fmt, k))
    codes, scales = (x.new_empty((*rows, size), dtype=torch.uint8) for size in sizes)
    return codes, scales


@torch.library.custom_op("quire::mx_dequantize", mutates_args=())
def mx_dequantize(
    codes: Tensor, scales: Tensor, format: str, length: int, dtype: torch.dtype
) -> Tensor:
    """The values (..., length) of plain codes and scales, bit for bit `Format.decode`.

    codes, scales: uint8, as `mx_quantize` gives them; every code and scale is read.
    dtype: float32, bfloat16 or float16; a value beyond its range saturates.
    Raises `FormatError` for other dtypes and shapes, and for a format without the plain layout.
    """
    fmt = format_of(format)
    _check_dtype("mx_dequantize", format, dtype)
    _check_plain("mx_dequantize", codes, scales, fmt, length)
    rows, row_scales = _rows(codes), _rows(scales)
    case = case_of(codes.device, fmt, rows.shape[0], 0, length, dtype)
    kernel = select("mx_dequantize", case)
    assert kernel is not None
    with _device_of(codes):
        values = kernel.run(rows, row_scales, fmt, length, dtype)
    return values.reshape(*codes.shape[:-1], length)


@mx_dequantize.register_fake
def _(codes: Tensor, scales: Tensor, format: str, length: int, dtype: torch.dtype) -> Tensor:
    _check_dtype("mx_dequantize", format, dtype)
    _check_plain("mx_dequantize", codes, scales, format_of(format), length)
    return codes.new_empty((*codes.shape[:-1], length), dtype=dtype)


@torch.library.custom_op("quire::mx_linear", mutates_args=())
def mx_linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, format: str) -> Tensor:
    """`x` times a dequantized weight, with its bias, summed in fp32 and rounded to x's dtype.

    x: (..., k), bfloat16, float16 or float32. codes, scales: a weight (n, k) in the plain layout.
    bias: (n,) or None, rounded to x's dtype. Returns (..., n). Its gradient reaches x and bias.
    Raises `FormatError` for other dtypes and shapes, and for a format without the plain layout.
    """
    fmt = _checked(x, format)
    _check_plain("mx_linear", codes, scales, fmt, x.shape[-1])
    return _linear(x, Weight(codes, scales), bias, fmt, codes.shape[0], PLAIN)


@mx_linear.register_fake
def _(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, format: str) -> Tensor:
    _check_plain("mx_linear", codes, scales, _checked(x, format), x.shape[-1])
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


@torch.library.custom_op("quire::mx_linear_tiled", mutates_args=())
def mx_linear_tiled(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    row_scale: Tensor | None,
    bias: Tensor | None,
    format: str,
    layout: str,
    out_features: int,
) -> Tensor:
    """`mx_linear` of a weight in a layout of its device.

    codes, scales, row_scale: a weight (out_features, k) that the named layout tiled for x's dtype.
    Raises `KernelError` for a layout that there is not.
    """
    weight = Weight(codes, scales, row_scale)
    return _linear(x, weight, bias, _checked(x, format), out_features, layout)


@mx_linear_tiled.register_fake
def _(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    row_scale: Tensor | None,
    bias: Tensor | None,
    format: str,
    layout: str,
    out_features: int,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


def _linear(
    x: Tensor, weight: Weight, bias: Tensor | None, format: Block, n: int, layout: str
) -> Tensor:
    _check_devices(x, weight)
    _check_bias(x, bias, n)
    rows = _rows(x)
    weight = weight._replace(codes=weight.codes.contiguous(), scales=weight.scales.contiguous())
    bias = None if bias is None else bias.to(x.dtype).contiguous()
    m, k = rows.shape
    case = case_of(x.device, format, m, n, k, x.dtype)
    kernel = select("mx_linear", case, layout)
    if kernel is None:
        weight = plain(weight, layout, format, n, k, x.dtype)
        kernel = select("mx_linear", case)
    assert kernel is not None
    with _device_of(x):
        product = kernel.run(rows, weight, bias, format, n)
    # Not `reshape`: the result belongs to nobody else, and FSDP warns of views.
    return aten._unsafe_view(product, (*x.shape[:-1], n))


def _device_of(x: Tensor) -> torch.cuda.device_of:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device_of(x)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1]).contiguous()


def plain(weight: Weight, layout: str, format: Block, n: int, k: int, dtype: torch.dtype) -> Weight:
    """A weight in any layout (tiled for activations of a dtype) in the plain one.

    Raises `KernelError` for a layout that there is not.
    """
    if layout == PLAIN:
        return weight
    load_providers()
    if layout not in LAYOUTS:
        legal = ", ".join([PLAIN, *LAYOUTS])
        raise KernelError(f"no layout of a weight is called {layout!r}: there are {legal}")
    return LAYOUTS[layout].untile(weight, format, n, k, dtype)


def _gradient_of_x(gradient: Tensor, ctx: Any) -> Tensor:
    """The gradient with respect to x, through the dequantized weight."""
    weight = Weight(*ctx.saved_tensors)
    codes, scales, _ = plain(weight, ctx.layout, format_of(ctx.format), ctx.n, ctx.k, ctx.dtype)
    # An element times its scale is exact in bfloat16; float16 might not hold it.
    dtype = torch.bfloat16 if ctx.dtype == torch.bfloat16 else torch.float32
    values = torch.ops.quire.mx_dequantize(codes, scales, ctx.format, ctx.k, dtype)
    return (gradient.to(dtype) @ values).to(ctx.dtype)


def _keep(ctx: Any, x: Tensor, weight: Weight, bias: Tensor | None, **more: Any) -> None:
    ctx.save_for_backward(*weight)
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.k, ctx.dtype = x.shape[-1], x.dtype
    for name, value in more.items():
        setattr(ctx, name, value)


def _gradients(ctx: Any, gradient: Tensor, bias: int) -> list[Tensor | None]:
    """The gradients of an op whose argument `bias` is the bias."""
    gradients: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
    if ctx.needs_input_grad[0]:
        gradients[0] = _gradient_of_x(gradient, ctx)
    if ctx.needs_input_grad[bias]:
        gradients[bias] = gradient.reshape(-1, gradient.shape[-1]).sum(0).to(ctx.bias_dtype)
    return gradients


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, scales, bias, format = inputs
    _keep(ctx, x, Weight(codes, scales), bias, format=format, layout=PLAIN, n=codes.shape[0])


def _setup_tiled(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, scales, row_scale, bias, format, layout, n = inputs
    _keep(ctx, x, Weight(codes, scales, row_scale), bias, format=format, layout=layout, n=n)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(_gradients(ctx, gradient, 3))


def _backward_tiled(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(_gradients(ctx, gradient, 4))


mx_linear.register_autograd(_backward, setup_context=_setup)
mx_linear_tiled.register_autograd(_backward_tiled, setup_context=_setup_tiled)


def _checked(x: Tensor, format: str) -> Block:
    _check_dtype("x", format, x.dtype)
    if x.ndim == 0:
        raise FormatError(f"{format}: x has no axis along which blocks could run")
    return format_of(format)


def _check_dtype(name: str, format: str, dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        legal = ", ".join(map(str, DTYPES))
        raise FormatError(f"{format}: {name} is {dtype}, and the mx ops take {legal}")


def _check_devices(x: Tensor, weight: Weight) -> None:
    for name, tensor in weight._asdict().items():
        if tensor is not None and tensor.device != x.device:
            raise FormatError(
                f"mx_linear: x is on {x.device} and the weight's {name} on {tensor.device}: move"
                " one of them"
            )


def _check_bias(x: Tensor, bias: Tensor | None, n: int) -> None:
    if bias is not None and (bias.shape != (n,) or bias.device != x.device):
        raise FormatError(
            f"mx_linear: the bias of {n} outputs on {x.device} is ({n},) there, not"
            f" {tuple(bias.shape)} on {bias.device}"
        )


def _check_plain(name: str, codes: Tensor, scales: Tensor, format: Block, k: int) -> None:
    expected = (row_bytes(format, k), row_blocks(format, k))
    found = (codes.shape[-1], scales.shape[-1])
    is_bytes = codes.dtype == scales.dtype == torch.uint8
    if not is_bytes or found != expected or codes.shape[:-1] != scales.shape[:-1]:
        raise FormatError(
            f"{name}: rows of {k} elements of {format} are uint8 codes (..., {expected[0]}) and"
            f" scales (..., {expected[1]}), not {codes.dtype} {tuple(codes.shape)} and"
            f" {scales.dtype} {tuple(scales.shape)}"
        )
