"""Format patterns: what they stand for, and what is refused."""

import pytest

from quire.errors import FormatError, PlanError, StudyError
from quire.explore.patterns import Pattern


def formats(text: str, fit: dict[str, int] | None = None) -> list[str]:
    pattern = Pattern.parse(text)
    return [
        str(pattern.entry(settings, (fit or {}).__getitem__)) for settings in pattern.settings()
    ]


def test_a_plain_format_stands_for_itself() -> None:
    assert formats("mxint4") == ["mxint4"]
    assert formats("bfp(4,scale_bits=8,size=16)") == ["bfp(4,scale_bits=8,size=16)"]


def test_ranges_include_both_ends_and_sets_keep_their_order() -> None:
    assert formats("fixed(4..6,3)") == ["fixed(4,3)", "fixed(5,3)", "fixed(6,3)"]
    assert formats("bfp(4,scale_bits=8,size=64|16)") == [
        "bfp(4,scale_bits=8,size=64)",
        "bfp(4,scale_bits=8,size=16)",
    ]
    assert formats("minifloat(e=2..3,m=1|3)") == [
        "fp4_e2m1",
        "fp6_e2m3",
        "minifloat(e=3,m=1)",
        "minifloat(e=3,m=3)",
    ]


def test_negative_ends() -> None:
    assert formats("fixed(8,-2..-1)") == ["fixed(8,-2)", "fixed(8,-1)"]


def test_a_fitted_integer_depends_on_the_other_settings() -> None:
    fit = {"fixed(4,{})": 5, "fixed(6,{})": 7}
    assert formats("fixed(4|6,fitted)", fit) == ["fixed(4,5)", "fixed(6,7)"]


def test_a_free_integer_goes_two_steps_to_either_side() -> None:
    assert formats("fixed(4,free)", {"fixed(4,{})": 5}) == [f"fixed(4,{f})" for f in range(3, 8)]


def test_corrections_follow_a_pattern() -> None:
    assert formats("bfp(2..3,scale_bits=8,size=16) + bias+gptq") == [
        "bfp(2,scale_bits=8,size=16)+gptq+bias",
        "bfp(3,scale_bits=8,size=16)+gptq+bias",
    ]
    fit = {"fixed(4,{})": 5}  # the template that is fitted has no corrections
    assert formats("fixed(4,fitted)+gptq", fit) == ["fixed(4,5)+gptq"]
    pattern = Pattern.parse("fixed(4,fitted)+gptq")
    assert pattern.label({"arg1": 0}) == "fixed(4,fitted)+gptq"


def test_labels_do_not_depend_on_the_fit() -> None:
    pattern = Pattern.parse("fixed(4..5,free)")
    labels = [pattern.label({"arg1": 4, "arg2": step}) for step in (-1, 0, 2)]
    assert labels == ["fixed(4,fitted-1)", "fixed(4,fitted)", "fixed(4,fitted+2)"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("fixed(6..4,0)", StudyError, "range 6..4 is empty"),
        ("minifloat(e=fitted,m=fitted)", StudyError, "one integer"),
        ("mxint4.5", FormatError, "mxint4.5"),
        ("mxint(4)+gptx", PlanError, "no correction is named 'gptx'; there are clip, gptq, bias"),
        ("nosuch(1..3)", FormatError, "nosuch"),
    ],
)
def test_what_is_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        Pattern.parse(text)
