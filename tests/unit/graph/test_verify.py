"""Verify: each rule of the table refuses a graph that breaks it, naming the node."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quire.errors import CaptureError
from quire.graph import capture, verify


@pytest.fixture
def graph():
    return capture(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (torch.randn(2, 4),))


def node_of(graph, name):
    return next(node for node in graph.graph.nodes if node.name == name)


def test_a_captured_graph_passes(graph):
    verify(graph)


def test_a_tensor_without_a_type(graph):
    node_of(graph, "relu").meta["quire_type"] = None
    with pytest.raises(CaptureError, match=r"node 'relu' of 1 produces a tensor without a type"):
        verify(graph)


def test_a_type_of_another_shape(graph):
    node = node_of(graph, "linear")
    node.meta["quire_type"] = replace(node.meta["quire_type"], shape=("batch", 5))
    with pytest.raises(CaptureError, match=r"fp32\[batch, 5\] and produces fp32\[batch, 4\]"):
        verify(graph)


def test_a_write_in_place(graph):
    node_of(graph, "relu").target = torch.ops.aten.relu_.default
    with pytest.raises(CaptureError, match=r"writes a tensor in place \(aten.relu_.default\)"):
        verify(graph)
