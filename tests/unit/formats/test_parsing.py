"""Format strings: what they mean, and what is said of one that means nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.errors import FormatError, QuireError
from quire.formats import (
    Binary,
    Block,
    DenormedMinifloat,
    Fixed,
    Log,
    Minifloat,
    Pow2,
    Table,
    Ternary,
    UFixed,
    bfp,
    bl,
    bm,
    parse,
    presets,
)

E8M0, FP32 = Pow2(8), presets["fp32"]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("fixed(8,4)", Fixed(8, 4)),
        ("fixed( w = 8, f = -4 )", Fixed(8, -4)),
        ("ufixed(8,4)", UFixed(8, 4)),
        ("minifloat(e=4,m=3)", Minifloat(4, 3, 7)),
        ("minifloat(4,3,bias=7)", Minifloat(4, 3)),
        ("minifloat(e=4,m=3,special=nan)", presets["fp8_e4m3"]),
        ("dmf(e=4,m=3)", DenormedMinifloat(4, 3, 7)),
        ("log(8)", Log(8, 63)),
        ("binary", Binary()),
        ("ternary", Ternary()),
        ('table("nf4")', Table("nf4")),
        ("pow2(4,bias=3)", Pow2(4, 3)),
        ("mxint8", Block(Fixed(8, 6), 32, E8M0)),
        ("mxfp4", Block(Minifloat(2, 1), 32, E8M0)),
        ("bfp(8,scale_bits=8,size=16)", Block(Fixed(8, 6), 16, E8M0)),
        ("bfp(8,scale_bits=4,size=16,bias=2)", Block(Fixed(8, 6), 16, Pow2(4, 2))),
        ("bm(e=2,m=1,scale_bits=8,size=16)", Block(Minifloat(2, 1), 16, E8M0)),
        ("bl(4,scale_bits=8,size=16)", Block(Log(4, 0), 16, E8M0)),
        ("block(fixed(4,0),size=128,scale=bf16)", presets["int4_g128"]),
        ('block(fixed(8,0),size="all",scale=fp32)', presets["int8"]),
        ("block(fp4_e2m1,size=16,scale=fp8_e4m3,tensor_scale=fp32)", presets["nvfp4"]),
        ("block(ufixed(4,0),128,bf16,zero_point=True)", presets["uint4_g128"]),
    ],
)
def test_a_string_means_a_value(text, meaning):
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (bfp(8, size=32), "mxint8"),
        (bm(2, 1, size=32), "mxfp4"),
        (bfp(8), "bfp(8,scale_bits=8,size=16)"),
        (bm(4, 3, size=32), "bm(e=4,m=3,scale_bits=8,size=32)"),
        (bl(4, scale_bits=5, size=8, bias=3), "bl(4,scale_bits=5,size=8,bias=3)"),
        (Block(Fixed(8, 0), 16, E8M0), "block(fixed(8,0),size=16,scale=pow2(8))"),
        (Block(Fixed(4, 0), "tensor", FP32), 'block(fixed(4,0),size="tensor",scale=fp32)'),
        (Minifloat(4, 3), "minifloat(e=4,m=3)"),
        (Minifloat(4, 3, 7, "nan"), "fp8_e4m3"),
        (Minifloat(3, 2, 3), "fp6_e3m2"),
        (Log(8, 63), "log(8)"),
        (Log(8, 0), "log(8,bias=0)"),
    ],
)
def test_the_shortest_name_is_printed(fmt, text):
    assert str(fmt) == repr(fmt) == text


small = st.integers(-60, 60)
bias = st.none() | st.integers(-20, 40)
scalars = st.one_of(
    st.builds(Fixed, st.integers(2, 25), small),
    st.builds(UFixed, st.integers(1, 24), small),
    st.builds(Minifloat, st.integers(1, 6), st.integers(0, 12), bias),
    st.builds(Minifloat, st.integers(2, 8), st.integers(1, 12), bias, st.just("ieee")),
    st.builds(Minifloat, st.integers(1, 6), st.integers(1, 12), bias, st.just("nan")),
    st.builds(DenormedMinifloat, st.integers(1, 5), st.integers(1, 12), bias),
    st.builds(Log, st.integers(2, 8), bias),
    st.sampled_from([Binary(), Ternary(), Table("nf4")]),
)
valued = scalars.filter(lambda f: not isinstance(f, Binary | Ternary))
scales = st.builds(Pow2, st.integers(1, 8), st.none() | st.integers(-100, 100))
sizes = st.integers(1, 4096) | st.sampled_from(["all", "tensor"])
real_scales = st.sampled_from([presets[n] for n in ("fp32", "bf16", "fp8_e4m3")])
blocks = st.one_of(
    st.builds(Block, valued, sizes, scales),
    st.builds(Block, st.builds(Fixed, st.integers(2, 12), st.integers(0, 10)), sizes, real_scales),
    st.builds(
        Block,
        st.builds(UFixed, st.integers(1, 8), st.just(0)),
        sizes,
        real_scales,
        st.none(),
        st.just(True),
    ),
)


@given(scalars | scales | blocks)
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_every_format_parses_from_its_strings(fmt):
    assert parse(str(fmt)) == fmt
    assert parse(fmt.long_form()) == fmt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mxint88",
            "format 'mxint88': no format or family is named 'mxint88'; did you mean"
            " mxint8 or mxint9 or mxint7? `quire formats` lists them",
        ),
        (
            "zzz(3)",
            "format 'zzz(3)': no format or family is named 'zzz'; `quire formats` lists them",
        ),
        (
            "fixed",
            "format 'fixed': fixed takes parameters, for example fixed(8,4)",
        ),
        (
            "fixed(8)",
            "format 'fixed(8)': fixed() missing 1 required positional argument: 'f';"
            " write fixed(8,4)",
        ),
        (
            "fixed(8,4,2)",
            "format 'fixed(8,4,2)': fixed() takes 3 positional arguments but 4 were given;"
            " write fixed(8,4)",
        ),
        (
            "minifloat(e=4,n=3)",
            "format 'minifloat(e=4,n=3)': minifloat() got an unexpected keyword argument 'n';"
            " write minifloat(e=4,m=3)",
        ),
        ("fixed(1,0)", "fixed: w=1 is not an integer from 2 to 32"),
        ("fixed(8,4.5)", "format 'fixed(8,4.5)': cannot read '4.5'"),
        ("fixed(True,4)", "fixed: w=True is not an integer from 2 to 32"),
        ("minifloat(e=9,m=3)", "minifloat: e=9 is not an integer from 1 to 8"),
        (
            "minifloat(e=4,m=3,special=ieeee)",
            "format 'minifloat(e=4,m=3,special=ieeee)': no format or family is named 'ieeee';"
            " `quire formats` lists them",
        ),
        (
            'minifloat(e=4,m=3,special="inf")',
            "minifloat: special='inf' is not one of none, nan, ieee",
        ),
        (
            "minifloat(e=1,m=0,special=nan)",
            "minifloat(e=1,m=0): too few codes for special='nan'",
        ),
        ("log(11)", "log: w=11 is not an integer from 2 to 10"),
        ('table("nf5")', "table: no table named 'nf5': there are 'nf4'"),
        (
            "block(fixed(8,6),size=0,scale=pow2(8))",
            "block: size=0 is not an integer from 1 to 2147483648",
        ),
        (
            'block(fixed(8,6),size="row",scale=pow2(8))',
            "block: size='row' is not an integer, 'all' (the axis) or 'tensor'",
        ),
        (
            "block(fixed(8,6),size=16,scale=fixed(8,0))",
            "block: scale fixed(8,0) is neither pow2(e) nor a float with NaN"
            " (fp32, bf16, fp8_e4m3)",
        ),
        (
            "block(mxint8,size=16,scale=fp32)",
            "block: element mxint8 is not a scalar format of values",
        ),
        (
            "block(ternary,size=16,scale=pow2(8))",
            "block: element ternary takes a real scale (fp32, bf16, fp8_e4m3), not pow2(8)",
        ),
        (
            "block(fixed(8,0),size=16,scale=fp32,zero_point=True)",
            "block: zero_point=True takes an element ufixed(w,0), not fixed(8,0)",
        ),
        (
            "block(fp4_e2m1,size=16,scale=fp8_e4m3,tensor_scale=bf16)",
            "block: tensor_scale=bf16 is not fp32",
        ),
        (
            "block(fp4_e2m1,size=16,scale=pow2(8),tensor_scale=fp32)",
            "block: tensor_scale and zero_point take a real scale (fp32, bf16, fp8_e4m3),"
            " not pow2(8)",
        ),
        (
            "fixed(8,",
            "format 'fixed(8,' cannot be read: write a preset such as mxint8 or a call such as"
            " fixed(8,4)",
        ),
        (
            "",
            "format '' cannot be read: write a preset such as mxint8 or a call such as fixed(8,4)",
        ),
        ("8", "format '8' is a int, not a format"),
        ("fixed(*x)", "format 'fixed(*x)': cannot read '*x'"),
        ("fixed(mxint8.bits,0)", "format 'fixed(mxint8.bits,0)': cannot read 'mxint8.bits'"),
        (
            "__import__('os')",
            "format \"__import__('os')\": no format or family is named '__import__';"
            " `quire formats` lists them",
        ),
    ],
)
def test_what_is_wrong_with_a_string_is_said(text, message):
    with pytest.raises(FormatError) as error:
        parse(text)
    assert isinstance(error.value, QuireError)
    assert str(error.value) == message


def test_only_strings_are_parsed():
    with pytest.raises(FormatError, match="a format string is a str, not int: 8"):
        parse(8)


def assert_refused_or_round_trips(text):
    """`FormatError` and nothing else, or a format whose own text gives it again."""
    try:
        found = parse(text)
    except FormatError:
        return
    assert parse(str(found)) == found


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_text_raises_anything_else(text):
    assert_refused_or_round_trips(text)


@given(
    st.sampled_from(["block", "fixed", "bfp", "minifloat", "pow2", "table", "log", "bm"]),
    st.lists(
        st.sampled_from(
            ["8", "-1", "mxint8", "fixed(8,6)", "bf16", "'all'", "pow2(8)", "True", "**x", "k=1"]
        ),
        max_size=4,
    ),
)
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_no_call_raises_anything_else(name, arguments):
    assert_refused_or_round_trips(f"{name}({','.join(arguments)})")
