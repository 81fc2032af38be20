"""Every registered op: its targets are pure, and its operands are arguments that hold numbers."""

import inspect

import pytest
import torch

from quire.ops import all_ops, op_for_target, op_named

ops = pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)


def parameters(target) -> list[tuple[str, str]]:
    """Name and kind of every parameter of an aten overload or a plain function."""
    schema = getattr(target, "_schema", None)
    if schema is not None:
        return [(a.name, str(a.type)) for a in schema.arguments]
    return [(p.name, str(p.annotation)) for p in inspect.signature(target).parameters.values()]


@ops
def test_is_found_by_its_name_and_targets(op):
    assert op_named(op.name) is op
    assert all(op_for_target(target) is op for target in op.targets)


@ops
def test_targets_are_functional(op):
    schemas = [target._schema for target in op.targets if hasattr(target, "_schema")]
    assert not any(schema.is_mutable for schema in schemas)


@ops
def test_operands_are_arguments_that_hold_numbers(op):
    for target in op.targets:
        kinds = parameters(target) if op.operands else []
        for operand in op.operands:
            if operand.arg is not None and operand.arg < len(kinds):
                kind = kinds[operand.arg][1]
                assert any(word in kind for word in ("Tensor", "number", "Scalar", "float")), kind


@ops
def test_operand_names_are_distinct(op):
    names = [operand.name for operand in op.operands]
    assert len(set(names)) == len(names)


@ops
def test_work_is_counted_where_there_are_operands_of_products(op):
    is_product = any(operand.is_operand for operand in op.operands)
    shapes = {"addmm": [(5,), (2, 3), (3, 5)], "baddbmm": [(5,), (4, 2, 3), (4, 3, 5)]}
    inputs = shapes.get(op.name, [(2, 3), (5, 3)])
    assert (op.macs((2, 5), inputs) > 0) == is_product


def test_every_op_module_registers():
    """A module that is added to the package is imported, so its ops are known."""
    assert torch.ops.aten.prelu.default in {t for op in all_ops() for t in op.targets}
