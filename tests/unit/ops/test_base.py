"""The registry of ops: look-up by target and by name, and no second owner of either."""

import pytest
import torch

from quire.ops import Op, op_for_target, op_named, register
from quire.ops.linear import LINEAR
from quire.ops.mask import causal_mask

aten = torch.ops.aten


def test_look_up():
    assert op_named("linear") is LINEAR
    assert op_for_target(aten.linear.default) is LINEAR
    assert op_for_target(aten.cumsum.default) is None
    assert op_for_target("output") is None


def test_a_taken_name_or_target_is_refused():
    with pytest.raises(ValueError, match="'linear'"):
        register(Op("linear", ()))
    with pytest.raises(ValueError, match=r"aten\.linear\.default"):
        register(Op("another linear", (aten.linear.default,)))


def test_causal_mask():
    found = causal_mask(torch.zeros(2, 3))
    assert found.tolist() == [[0.0, -torch.inf, -torch.inf], [0.0, 0.0, -torch.inf]]
