"""Straight-through gradients against their formula: one, zero where the clamp changed a value."""

import pytest
import torch
from tests.unit.formats.grid import grid_of

from quire.formats import Pow2, parse

SCALARS = [
    "fixed(4,2)",
    "ufixed(4,2)",
    "minifloat(e=2,m=1)",
    "fp8_e4m3",
    "fp8_e5m2",
    "dmf(e=2,m=2)",
    "log(4)",
    "ternary",
    'table("nf4")',
]
# Where an element would round if the grid went on: its last step repeats above the largest value.
NEXT_ABOVE = {
    "fixed(4,2)": 2.0,
    "ufixed(4,2)": 4.0,
    "minifloat(e=2,m=1)": 8.0,
    "fp8_e4m3": 480.0,
    "fp8_e5m2": 65536.0,
    "dmf(e=2,m=2)": 4.0,
    "log(4)": 32.0,
    "ternary": 2.0,
}


def gradient(fmt, x: torch.Tensor, **options) -> torch.Tensor:
    """The gradient of sum(weights * quantize(x)) divided by the weights."""
    x = x.detach().requires_grad_()
    weights = torch.arange(1.0, x.numel() + 1).reshape(x.shape).to(x.dtype)
    (fmt.quantize(x, **options) * weights).sum().backward()
    return x.grad / weights


@pytest.mark.parametrize("name", NEXT_ABOVE)
def test_a_scalar_is_masked_from_where_it_would_round_beyond_the_range(name):
    fmt = parse(name)
    top, beyond = fmt.highest, NEXT_ABOVE[name]
    # In the log domain the middle is the geometric one.
    middle = top * 2**0.5 if name.startswith("log") else (top + beyond) / 2
    inside = torch.tensor([0.0, top / 3, top, middle * 0.999], dtype=torch.float32)
    outside = torch.tensor([middle * 1.001, beyond, top * 10])
    assert gradient(fmt, inside).tolist() == [1.0] * 4
    assert gradient(fmt, outside).tolist() == [0.0] * 3
    if fmt.lowest == -fmt.highest:
        assert gradient(fmt, -inside).tolist() == [1.0] * 4
        assert gradient(fmt, -outside).tolist() == [0.0] * 3


def test_the_lowest_fixed_code_is_inside():
    fmt = parse("fixed(4,2)")
    assert gradient(fmt, torch.tensor([-2.0, -2.1, -2.2, -5.0])).tolist() == [1, 1, 0, 0]
    unsigned = parse("ufixed(4,2)")
    assert gradient(unsigned, torch.tensor([-0.1, -0.2, -3.0])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", [*SCALARS, "mxint8", "mxfp4", "int4", "nvfp4", "uint8", "nf4"])
def test_the_mask_can_be_switched_off(name):
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(gradient(parse(name), x, mask_saturated=False), torch.ones(4, 40))


@pytest.mark.parametrize("name", [*SCALARS, "mxint8", "mxfp8_e4m3", "int4_g128", "nvfp4", "uint8"])
def test_forward_values_do_not_depend_on_the_gradient(name):
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(1)) * 4
    y = parse(name).quantize(x.clone().requires_grad_())
    assert y.requires_grad
    assert torch.equal(y.detach(), parse(name).quantize(x))
    with torch.no_grad():
        assert not parse(name).quantize(x.clone().requires_grad_()).requires_grad


def masked_by_formula(fmt, x: torch.Tensor, size: int) -> torch.Tensor:
    """numerics.md, by a loop: the clamp changed the rounded value and |x| is not the maximum."""
    expected = torch.ones_like(x)
    grid = grid_of(fmt.element)
    top, step = grid.values[-1], grid.values[-1] - grid.values[-2]
    for row, values in enumerate(x.double()):
        for start in range(0, len(values), size):
            block = values[start : start + size]
            largest = block.abs().max()
            if isinstance(fmt.scale, Pow2):
                exponent = largest.frexp().exponent.item() - 1 - fmt.element.emax
                scaled = block.abs() / 2.0**exponent
            else:
                scale = largest.float() / torch.tensor(top, dtype=torch.float32)
                scale = torch.from_numpy(grid_of(fmt.scale).round(scale.double().numpy()[None]))
                scaled = (block.float() / scale.float()).abs().double()
            # A tie at the top goes to the even neighbour, which is the one beyond the range.
            masked = (scaled >= top + step / 2) & (block.abs() < largest)
            expected[row, start : start + size][masked] = 0
    return expected


@pytest.mark.parametrize(
    "name", ["mxint8", "mxint3", "mxfp4", "bfp(4)", "bm(e=2,m=3)", "int4_g128"]
)
def test_a_block_is_masked_where_an_element_saturated_below_its_maximum(name):
    fmt = parse(name)
    x = torch.randn(64, 70, generator=torch.Generator().manual_seed(2))
    x[:, 0] = 1.999  # many values near the top of their binade saturate beside it
    x[:, 1:9] = torch.linspace(1.7, 1.998, 8)
    expected = masked_by_formula(fmt, x, fmt.size)
    assert torch.equal(gradient(fmt, x), expected)
    if isinstance(fmt.scale, Pow2):
        assert (expected == 0).any()


def test_equal_maxima_all_keep_their_gradient():
    x = torch.tensor([1.999, -1.999, 1.999, 1.99, 0.1])
    assert gradient(parse("mxint4"), x).tolist() == [1, 1, 1, 0, 1]


def test_a_static_scale_masks_what_it_clamps():
    x = torch.tensor([0.1, 7.0, 8.0, -9.0, 6.9, 100.0, -3.0, 7.4])
    got = gradient(parse("int4"), x, scale=1.0)
    # 100 is the maximum of its block, whose gradient the rule keeps.
    assert got.tolist() == [1, 1, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["fixed(8,4)", "mxint8", "nvfp4", "int8"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_strided_inputs_follow_the_axis(name, axis):
    fmt = parse(name)
    x = torch.randn(40, 50, generator=torch.Generator().manual_seed(3)) * 5
    expected = gradient(fmt, x, axis=axis)
    leaf = x.t().contiguous().requires_grad_()
    weights = torch.arange(1.0, x.numel() + 1).reshape(x.shape)
    (fmt.quantize(leaf.t(), axis) * weights).sum().backward()
    assert torch.equal(leaf.grad.t() / weights, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_gradients_have_the_inputs_dtype(dtype):
    x = torch.tensor([0.5, 1.99, 100.0], dtype=dtype, requires_grad=True)
    parse("fixed(6,4)").quantize(x).sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.tolist() == [1, 0, 0]


def test_second_order_gradients_are_zero():
    x = torch.tensor([0.3, 0.7], requires_grad=True)
    y = parse("fixed(8,4)").quantize(x) ** 2
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert first.tolist() == [2 * v for v in parse("fixed(8,4)").quantize(x).tolist()]
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.tolist() == [2.0, 2.0]  # d(2 q(x)) / dx, straight through again


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("name", ["fixed(4,2)", "mxint4"])
def test_compiled_gradients_equal_eager_ones(name):
    torch.compiler.reset()
    fmt = parse(name)
    x = torch.randn(32, 95, generator=torch.Generator().manual_seed(4)) * 3
    compiled = torch.compile(lambda x: (fmt.quantize(x) * 3).relu(), fullgraph=True)
    grads = []
    for function in (compiled, lambda x: (fmt.quantize(x) * 3).relu()):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.sum().backward()
        grads.append((y.detach(), leaf.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])
    assert (grads[1][1] == 0).any()


class Casting(torch.nn.Module):
    """Casts as they stand in a module that is exported."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(40, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = MXINT8.quantize(self.fc.weight, 1)
        return torch.nn.functional.linear(FIXED.quantize(x), weight, self.fc.bias)


MXINT8, FIXED = parse("mxint8"), parse("fixed(6,4)")


def test_formats_export_with_a_dynamic_batch():
    # Values only: torch.export records the forward pass of an autograd.Function, op by op. A graph
    # that is to train holds the cast as one call instead (`quire.cast`).
    torch.manual_seed(0)
    module = Casting()
    batch = ({0: torch.export.Dim.DYNAMIC},)
    x = torch.randn(4, 40)
    exported = torch.export.export(module, (x,), dynamic_shapes=batch, strict=False)
    graph = exported.module(check_guards=False)
    for rows in (4, 1, 9):
        y = torch.randn(rows, 40)
        assert torch.equal(graph(y), module(y))
