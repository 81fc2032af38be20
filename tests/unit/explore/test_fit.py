"""Fitted integers: the least squared error, checked against every integer."""

import pytest
import torch

from quire.errors import StudyError
from quire.explore.fit import fit_integer, squared_error
from quire.formats import parse


@pytest.mark.parametrize("template", ["fixed(4,{})", "fixed(8,{})", "minifloat(e=2,m=1,bias={})"])
@pytest.mark.parametrize("scale", [0.02, 1.0, 300.0])
def test_no_other_integer_is_better(template: str, scale: float) -> None:
    x = [torch.randn(4, 500, generator=torch.Generator().manual_seed(0)) * scale]
    errors = {i: squared_error(parse(template.format(i)), x) for i in range(-14, 20)}
    assert fit_integer(template, x) == min(errors, key=errors.__getitem__)


def test_all_tensors_of_a_group_count() -> None:
    small, large = torch.full((8,), 0.01), torch.full((8,), 100.0)
    assert fit_integer("fixed(8,{})", [small, large]) == fit_integer("fixed(8,{})", [large])


def test_zeros_fit_anything() -> None:
    assert fit_integer("fixed(8,{})", [torch.zeros(5)]) == 0


def test_a_block_format_has_nothing_to_fit() -> None:
    with pytest.raises(StudyError, match="finds its scale in the data"):
        fit_integer("bfp(4,scale_bits=8,size=16,bias={})", [torch.ones(4)])
