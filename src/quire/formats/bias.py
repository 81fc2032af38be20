"""Scalar formats whose exponent field has a bias, with a default that their text leaves out."""

from __future__ import annotations

from abc import abstractmethod

from quire.formats.base import Scalar
from quire.formats.registry import check_range


def ieee_bias(e: int) -> int:
    """The IEEE exponent bias of `e` exponent bits."""
    return 2 ** (e - 1) - 1


class Biased(Scalar):
    """A format with a field `bias`, None in a call for the default."""

    bias: int | None

    @property
    @abstractmethod
    def default_bias(self) -> int:
        """The bias that the text of the format leaves out."""

    def fill_bias(self, family: str, low: int = -256, high: int = 512) -> None:
        """Replace None by the default, and raise for a bias out of bounds."""
        if self.bias is None:
            object.__setattr__(self, "bias", self.default_bias)
        check_range(family, "bias", self.bias, low, high)

    @property
    def exponent_bias(self) -> int:
        """The bias as an integer (the field is None only before construction ends)."""
        assert self.bias is not None
        return self.bias

    @property
    def bias_text(self) -> str:
        """The bias as the last argument of a call."""
        return "" if self.bias == self.default_bias else f",bias={self.bias}"
