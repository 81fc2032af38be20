"""The CUDA kernel that quantizes along both axes, on a device, against torch."""

import pytest
import torch
from tests.unit.software.triton.tensors import CASES, hard

from quire.software.kernels import reference
from quire.software.kernels.cuda import cast
from quire.software.kernels.cuda.build import can_build

pytestmark = pytest.mark.skipif(not can_build(), reason="needs nvcc and nvidia-cutlass")


@pytest.mark.parametrize(("fmt", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("shape", [(9, 133), (256, 384), (160, 1056)], ids=str)
def test_one_pass_quantizes_along_both_axes(fmt, dtype, shape, poisoned):
    x = hard(*shape, dtype).cuda()
    *rows, codes, scales = poisoned(cast.quantize_both, x, fmt)
    expected = *reference.quantize(x, fmt), *reference.quantize(x.T.contiguous(), fmt)
    for found, value in zip((*rows, codes, scales), expected, strict=True):
        assert torch.equal(found, value)
