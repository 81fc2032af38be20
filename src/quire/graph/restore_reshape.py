"""Pass: reshapes that export specialised to the memory layout take any layout again, since a pass
or a cast may change it."""

import torch
from torch.fx import GraphModule

from quire.graph.rewrite import arguments, find

aten = torch.ops.aten


def restore_reshape(graph: GraphModule) -> None:
    """Turn every view, and every copy that is then viewed, into a reshape."""
    for node in find(graph, aten.view.default, aten._unsafe_view.default):
        source, shape = arguments(node)
        copied = node.target is aten._unsafe_view.default and source.target is aten.clone.default
        node.target = aten.reshape.default
        node.args = (arguments(source)[0] if copied else source, shape)
