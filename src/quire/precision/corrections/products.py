"""Products with a weight: which they are, and how weight and inputs are seen as rows of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.fx import Node

from quire.graph.open_convolution import convolution_settings
from quire.graph.sites import Site
from quire.ops.convolution import CONVOLUTION, patches
from quire.ops.linear import ADDMM, LINEAR
from quire.ops.matmul import MATMUL

if TYPE_CHECKING:
    from quire.precision.entry import Entry

WHERE = "the weight of a linear layer or a convolution, where that is itself a parameter"


@dataclass(frozen=True)
class View:
    """How the weight and the inputs of an op are seen.

    is_transposed: the weight is (in, out), not (out, in).
    inputs: (the call, its arguments) -> (groups, samples, length), what each row is multiplied by.
    groups: of the call, those of a convolution.
    """

    is_transposed: bool
    inputs: Callable[[Node, Sequence[Any]], Tensor]
    groups: Callable[[Node], int] = lambda node: 1


@dataclass(frozen=True)
class Rows:
    """A weight as rows: each of the `groups` has its own inputs."""

    is_transposed: bool
    groups: int

    def of(self, weight: Tensor) -> Tensor:
        """A weight as (groups, rows, length)."""
        rows = weight.t() if self.is_transposed else weight.flatten(1)
        return rows.unflatten(0, (self.groups, -1))

    def back(self, rows: Tensor, like: Tensor) -> Tensor:
        """The weight of these rows, in the shape of `like`."""
        flat = rows.flatten(0, 1)
        return (flat.t() if self.is_transposed else flat).reshape(like.shape).contiguous()


def rows_of(site: Site, node: Node) -> Rows:
    """How the weight of a call is seen as rows."""
    view = _VIEWS[site.op, site.arg]
    return Rows(view.is_transposed, view.groups(node))


def inputs_of(site: Site, node: Node, arguments: Sequence[Any]) -> Tensor:
    """What the rows of a weight are multiplied by, (groups, samples, length)."""
    return _VIEWS[site.op, site.arg].inputs(node, arguments)


def is_weight(site: Site, entry: Entry) -> bool:
    """Whether a site is a weight that stands as rows, with the blocks of its entry along them."""
    is_matrix = site.op == CONVOLUTION.name or len(site.shape) == 2
    known = site.role == "weight" and (site.op, site.arg) in _VIEWS and is_matrix
    return known and site.parameter is not None and _runs_along(site, entry)


def _runs_along(site: Site, entry: Entry) -> bool:
    if entry.axis is None or not entry.format.is_block:
        return True
    given, own = (a if isinstance(a, tuple) else (a,) for a in (entry.axis, site.axis))
    return [a % len(site.shape) for a in given] == [a % len(site.shape) for a in own]


def _before(arguments: Sequence[Any], position: int) -> Tensor:
    """x of x @ W."""
    x: Tensor = arguments[position]
    return x.reshape(1, -1, x.shape[-1])


def _after(arguments: Sequence[Any]) -> Tensor:
    """x of W @ x."""
    x: Tensor = arguments[1]
    columns = x[:, None] if x.dim() == 1 else x
    return columns.transpose(-2, -1).reshape(1, -1, columns.shape[-2])


def _windows(node: Node, arguments: Sequence[Any]) -> Tensor:
    """The windows of a convolution."""
    *_, stride, padding, dilation, groups = convolution_settings(node)
    x, weight, *_ = arguments
    rank = weight.dim() - 2
    windows = patches(x, weight.shape[2:], stride, padding, dilation, groups)
    return windows.flatten(2 + rank).transpose(0, 1).flatten(1, -2)


def _groups(node: Node) -> int:
    return convolution_settings(node)[-1]


_VIEWS: dict[tuple[str, int | None], View] = {
    (LINEAR.name, 1): View(False, lambda node, arguments: _before(arguments, 0)),
    (ADDMM.name, 2): View(True, lambda node, arguments: _before(arguments, 1)),
    (MATMUL.name, 1): View(True, lambda node, arguments: _before(arguments, 0)),
    (MATMUL.name, 0): View(False, lambda node, arguments: _after(arguments)),
    (CONVOLUTION.name, 1): View(False, _windows, _groups),
}
"""By op and the position of the weight among its arguments."""
