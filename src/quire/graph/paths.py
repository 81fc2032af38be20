"""The module path of a node, from the module stack that export records."""

from __future__ import annotations

from torch.fx import Node


def module_path(node: Node) -> str:
    """Path of the innermost module that issued `node`; "" at the root or where none is recorded."""
    return _innermost(node)[1]


def call_path(node: Node) -> str:
    """`module_path`, with "#2" at the second call of the module, "#3" at the third, ..."""
    key, path = _innermost(node)
    _, _, repeat = key.partition("@")
    return f"{path}#{int(repeat) + 1}" if repeat.isdigit() else path


def _innermost(node: Node) -> tuple[str, str]:
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    key, (path, _) = list(stack.items())[-1]
    return key, path
