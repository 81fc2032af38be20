"""Functions of one real number, correctly rounded: one table from name to mpmath expression.

`rounded_to_odd` gives the true value, cut to 53 bits with a sticky last bit, so that any later
rounding to at most 49 bits rounds once. mpmath makes the bytes independent of the C library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from mpmath import mp, mpf
from torch import Tensor

PRECISION, HIGH_PRECISION = 160, 1400
"""Bits of an evaluation, and of another one if the first is as short as 53 bits. What is so short
in the second is exact."""

GUARD = 40
"""Low bits of an mpmath result that are not trusted."""

FAR = 800
"""Beyond +-800, exp and what is made of it only approach a limit or leave float64's range: as
rounding looks at the side of a number and not at the distance, the argument 800 serves for all."""

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

RealFunction = Callable[..., Any]


def _near(x: Any, limit: int = FAR) -> Any:
    return max(min(x, limit), -limit)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-_near(x)))


def _expm1(x: Any) -> Any:
    return mp.expm1(_near(x))


def _log_of_sum(x: Any) -> Any:
    """log(1 + exp(x)), without the cancellation that hides how far it is from x."""
    return mp.log1p(mp.exp(_near(x))) if x <= 0 else x + mp.log1p(mp.exp(-_near(x)))


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        # The tail of the normal distribution at 40 is exp(-800).
        return x * mp.erfc(-_near(x, 40) / mp.sqrt(2)) / 2
    return x * _sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf(0.044715) * x**3))


def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return x if x * beta > threshold else _log_of_sum(x * beta) / beta


def _elu(x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    return scale * x if x > 0 else mpf(scale) * alpha * _expm1(input_scale * x)


def _hardsigmoid(x: Any) -> Any:
    return max(0, min(6, x + 3)) / mpf(6)


FUNCTIONS: dict[str, RealFunction] = {
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * mp.tanh(_near(_log_of_sum(x))),
    "sigmoid": _sigmoid,
    "log_sigmoid": lambda x: -_log_of_sum(-x),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda x: x * max(0, min(6, x + 3)) / 6,
    "tanh": lambda x: mp.tanh(_near(x, 400)),
    "erf": lambda x: mp.erf(_near(x, 28)),
    "elu": _elu,
    "celu": lambda x, alpha=1: x if x > 0 else alpha * _expm1(x / alpha),
    "selu": lambda x: _elu(x, SELU_ALPHA, SELU_SCALE),
    "softplus": _softplus,
    "leaky_relu": lambda x, slope=0.01: x if x > 0 else slope * x,
    "exp": lambda x: mp.exp(_near(x)),
    "expm1": _expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sin": mp.sin,
    "cos": mp.cos,
    "pow": mp.power,
}
"""Arguments and defaults are those of the aten signatures."""


@cache
def rounded_to_odd(name: str, x: float, *constants: Any, **options: Any) -> float | None:
    """The function at a finite x, rounded to odd in 53 bits; None where the value is not a real.

    Magnitudes outside [2^-1000, the largest float64] are moved to that range's end.
    """
    value = _evaluate(FUNCTIONS[name], PRECISION, x, constants, options)
    if value is not None and _is_near_short(value[1], value[3]):
        value = _evaluate(FUNCTIONS[name], HIGH_PRECISION, x, constants, options)
    if value is None:
        return None
    sign, mantissa, exponent, _ = value
    return _cut(-1 if sign else 1, mantissa, exponent)


def _evaluate(
    function: RealFunction, precision: int, x: float, constants: Any, options: dict[str, Any]
) -> tuple[int, int, int, int] | None:
    """mpmath's (sign, mantissa, exponent, bits) of a finite real value, else None."""
    with mp.workprec(precision):
        try:
            value = +function(mpf(x), *constants, **options)
        except (ZeroDivisionError, ValueError):
            return None
        if not isinstance(value, mpf) or not mp.isfinite(value):
            return None
        return value._mpf_  # pyright: ignore[reportPrivateUsage]


def _is_near_short(mantissa: int, bits: int) -> bool:
    """Whether the trusted bits cannot tell the value from a number of 53 bits."""
    mantissa <<= PRECISION - bits
    tail_bits = PRECISION - 53
    tail = mantissa & ((1 << tail_bits) - 1)
    return min(tail, (1 << tail_bits) - tail) < 1 << GUARD


def _cut(sign: int, mantissa: int, exponent: int) -> float:
    if mantissa == 0:
        return 0.0
    drop = mantissa.bit_length() - 53
    if drop > 0:
        lost = mantissa & ((1 << drop) - 1)
        mantissa, exponent = (mantissa >> drop) | (lost != 0), exponent + drop
    top = mantissa.bit_length() + exponent
    if top > 1024:
        return sign * torch.finfo(torch.float64).max
    return sign * (2.0**-1000 if top < -1000 else math.ldexp(mantissa, exponent))


def tabulate(name: str, x: Tensor, fallback: Tensor, *constants: Any, **options: Any) -> Tensor:
    """The function at every element of x (float64), rounded to odd.

    fallback: its value in float64, taken where x is not finite or the value is not a real number
    (the logarithm of a negative one).
    """
    values, places = torch.unique(x, return_inverse=True)
    table = values.tolist()
    odd = [
        rounded_to_odd(name, v, *constants, **options) if math.isfinite(v) else None for v in table
    ]
    known = torch.tensor([v is not None for v in odd], device=x.device)
    entries = torch.tensor([v or 0.0 for v in odd], dtype=torch.float64, device=x.device)
    return torch.where(known[places], entries[places], fallback) + 0.0
