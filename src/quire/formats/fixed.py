"""Fixed point: two's complement or unsigned integers times a power of two."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from quire.formats.base import Scalar
from quire.formats.carrier import round_to_multiple, round_within
from quire.formats.registry import check_range, family


class _Integer(Scalar):
    """What signed and unsigned fixed point share."""

    guard_bits = 2

    w: int
    f: int

    @property
    def bits(self) -> int:
        return self.w

    @property
    def quantum_exponent(self) -> int:
        return -self.f

    @property
    def nan_code(self) -> None:
        return None

    def grid(self, y: Tensor) -> Tensor:
        return round_to_multiple(y, -self.f)

    def nearest(self, y: Tensor, lowest: float | None = None) -> Tensor:
        low = self.lowest if lowest is None else lowest
        return round_within(y, -self.f, low, self.highest)

    def codes_of(self, values: Tensor) -> Tensor:
        return (values * 2.0**self.f).long() & (2**self.w - 1)


@family("fixed", "fixed(8,4)")
@dataclass(frozen=True, repr=False)
class Fixed(_Integer):
    """`fixed(w,f)`: c * 2^-f with c in [-2^(w-1), 2^(w-1) - 1], two's complement."""

    w: int
    f: int

    def __post_init__(self) -> None:
        check_range("fixed", "w", self.w, 2, 32)
        check_range("fixed", "f", self.f, -256, 256)

    def long_form(self) -> str:
        return f"fixed({self.w},{self.f})"

    @property
    def highest(self) -> float:
        return (2 ** (self.w - 1) - 1) * 2.0**-self.f

    @property
    def lowest(self) -> float:
        return -(2 ** (self.w - 1)) * 2.0**-self.f

    @property
    def emax(self) -> int:
        return self.w - 2 - self.f

    @property
    def precision(self) -> int:
        return self.w - 1

    def values_of(self, codes: Tensor) -> Tensor:
        sign = 1 << (self.w - 1)
        return ((codes ^ sign) - sign).double() * 2.0**-self.f


@family("ufixed", "ufixed(8,4)")
@dataclass(frozen=True, repr=False)
class UFixed(_Integer):
    """`ufixed(w,f)`: c * 2^-f with c in [0, 2^w - 1]; negative values go to 0."""

    w: int
    f: int

    def __post_init__(self) -> None:
        check_range("ufixed", "w", self.w, 1, 32)
        check_range("ufixed", "f", self.f, -256, 256)

    def long_form(self) -> str:
        return f"ufixed({self.w},{self.f})"

    @property
    def highest(self) -> float:
        return (2**self.w - 1) * 2.0**-self.f

    @property
    def lowest(self) -> float:
        return 0.0

    @property
    def emax(self) -> int:
        return self.w - 1 - self.f

    @property
    def precision(self) -> int:
        return self.w

    def values_of(self, codes: Tensor) -> Tensor:
        return codes.double() * 2.0**-self.f
