"""A GPU gives the bits of the CPU for every registered format, eager and compiled."""

import pytest
import torch
from tests.conformance.test_formats import FORMATS, accepts, dtype_of
from tests.conformance.test_formats_compiled import assert_same, in_context, tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
formats = pytest.mark.parametrize("fmt", FORMATS, ids=str)
layouts = pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ((64, 95), -1, torch.float32),
        ((95, 128), 0, torch.float32),
        ((3, 77, 40), 1, torch.float32),
        ((64, 95), -1, torch.bfloat16),
        ((64, 95), -1, torch.float64),
    ],
    ids=["ragged", "axis0", "middle", "bfloat16", "float64"],
)


@formats
@layouts
def test_eager_equals_the_cpu(fmt, shape, axis, dtype):
    x = tensor(shape, dtype if accepts(fmt, dtype) else dtype_of(fmt))
    assert_same([fmt.quantize(x.cuda(), axis).cpu()], [fmt.quantize(x, axis)])
    finite = torch.nan_to_num(x)
    encoded = fmt.encode(finite.cuda(), axis)
    assert torch.equal(encoded.codes.cpu(), fmt.encode(finite, axis).codes)
    assert_same([fmt.decode(encoded).cpu()], [fmt.quantize(finite, axis)])
    packed = fmt.pack(encoded)
    assert torch.equal(packed.cpu(), fmt.pack(fmt.encode(finite, axis)))


@pytest.mark.nightly
@formats
@layouts
def test_compiled_equals_the_cpu(fmt, shape, axis, dtype):
    torch.compiler.reset()
    x = tensor(shape, dtype if accepts(fmt, dtype) else dtype_of(fmt))
    with torch.no_grad():
        function = in_context(fmt, axis)
        expected = function(x, torch.empty_like(x))
        compiled = torch.compile(function, fullgraph=True)
        got = compiled(x.cuda(), torch.empty_like(x, device="cuda"))
    assert_same([t.cpu() for t in got], expected)
