"""Pass: drop the metadata assertions of export, which pin the device and dtype of the capture."""

import torch
from torch.fx import GraphModule

from quire.graph.rewrite import find


def drop_assertions(graph: GraphModule) -> None:
    """Erase every metadata assertion."""
    for node in find(graph, torch.ops.aten._assert_tensor_metadata.default):
        graph.graph.erase_node(node)
