"""Graphs: capture of a model, the types of its tensors, and its sites."""

from quire.graph.capture import CaptureInfo, capture
from quire.graph.open_convolution import open_convolution
from quire.graph.sites import Site, sites
from quire.graph.types import TensorType, type_of
from quire.graph.verify import verify

__all__ = [
    "CaptureInfo",
    "Site",
    "TensorType",
    "capture",
    "open_convolution",
    "sites",
    "type_of",
    "verify",
]
