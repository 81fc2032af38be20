"""`Plan` and `Entry`: the mapping, JSON, patterns, ties, and every error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.precision import Entry

FULL = Entry(parse("int8"), 1, 0.5, {"rotate": {"size": 4}})


def test_entries_are_made_of_strings_and_formats() -> None:
    plan = Plan({"a": "mxint4"})
    plan["b"] = parse("fixed(8,4)")
    plan["c"] = FULL
    assert plan == {"a": Entry(parse("mxint4")), "b": Entry(parse("fixed(8,4)")), "c": FULL}
    del plan["a"]
    assert list(plan) == ["b", "c"]
    with pytest.raises(PlanError, match=r"fc1.weight: .*mxint88.*mxint8"):
        plan["fc1.weight"] = "mxint88"


def test_uniform_fills_the_operands(lm) -> None:
    plan = Plan.uniform(lm.graph, "mxint8")
    operands = [site.name for site in quire.sites(lm.graph).values() if site.is_operand]
    assert list(plan) == operands
    assert {"q.input", "k.input", "q.weight", "embedding.weight", "head.weight"} & plan.keys()
    assert set(plan.values()) == {Entry(parse("mxint8"))}


def test_uniform_over_all_sites_takes_the_legal_ones(lm) -> None:
    known = quire.sites(lm.graph)
    exact = {n for n, s in known.items() if s.operand == "input" and s.role in ("softmax", "norm")}
    scalars = {name for name, site in known.items() if not site.shape}
    assert exact
    tables = {name for name, site in known.items() if site.role == "table"}
    assert tables == {"softmax.table"} <= scalars
    assert set(Plan.uniform(lm.graph, "fixed(8,4)", "all")) == known.keys() - tables
    assert set(Plan.uniform(lm.graph, "ufixed(9,8)", "all")) == known.keys() - exact
    assert set(Plan.uniform(lm.graph, "mxint8", "all")) == known.keys() - exact - scalars
    with pytest.raises(PlanError, match="'operands' nor 'all'"):
        Plan.uniform(lm.graph, "mxint8", "weights")  # type: ignore[arg-type]


def test_patterns_the_last_match_wins(mlp) -> None:
    plan = Plan.from_patterns(
        mlp.graph, {"*.weight": "mxint4", "fc1.*": "mxint8", "fc1.bias": "fixed(8,4)"}
    )
    assert {name: str(entry) for name, entry in plan.items()} == {
        "fc1.input": "mxint8",
        "fc1.weight": "mxint8",
        "fc1.bias": "fixed(8,4)",
        "fc2.weight": "mxint4",
    }


def test_a_pattern_takes_a_whole_tie_group(lm) -> None:
    plan = Plan.from_patterns(lm.graph, {"*.input": "fixed(8,4)", "k.input": "fixed(6,3)"})
    assert {str(plan[f"{name}.input"]) for name in "qkv"} == {"fixed(6,3)"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"*.wieght": "mxint4"}, r"pattern '\*.wieght' matches no site: did you mean"),
        ({"fc1.wieght": "mxint4"}, "site name 'fc1.wieght' matches no site: did you mean 'fc1.we"),
        ({"zzz*": "mxint4"}, "matches no site: `quire plan sites` lists the sites"),
    ],
)
def test_patterns_that_match_nothing(mlp, patterns: dict[str, str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_patterns(mlp.graph, patterns)


def test_ties_agree_or_are_an_error(lm) -> None:
    Plan({"k.input": "mxint4"}).check(lm.graph)
    Plan({"k.input": "mxint4", "v.input": "mxint4"}).check(lm.graph)
    message = "k.input is mxint4 and v.input is mxint8, but they share one tensor"
    with pytest.raises(PlanError, match=message):
        Plan({"k.input": "mxint4", "v.input": "mxint8"}).check(lm.graph)
    with pytest.raises(PlanError, match=message):
        Plan.from_patterns(lm.graph, {"k.input": "mxint4", "v.input": "mxint8"})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"fc1.wieght": "mxint4"}, "no site 'fc1.wieght' in the graph: did you mean 'fc1.weight'"),
        ({"fc1.weight": Entry(parse("int8"), 2)}, r"has the shape \(48, 64\), and so no axis 2"),
        ({"fc1.weight": Entry(parse("fixed(8,4)"), scale=1.0)}, "static scale 1.0, but fixed"),
    ],
)
def test_check(mlp, entries: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan(entries).check(mlp.graph)


def test_check_of_formats(lm, cnn) -> None:
    name = next(n for n, s in quire.sites(lm.graph).items() if n.endswith("softmax.input"))
    with pytest.raises(PlanError, match=r"input of softmax, takes fixed\(w,f\) with w of at most"):
        Plan({name: "mxint8"}).check(lm.graph)
    with pytest.raises(PlanError, match=r"act.slope, .* takes a format without blocks, not mxint8"):
        Plan({"act.slope": "mxint8"}).check(cnn.graph)
    for format in ("ufixed(16,14)", "fixed(16,15)", "ufixed(26,25)", "ufixed(1,0)"):
        with pytest.raises(PlanError, match=r"takes ufixed\(p\+1,p\) with p from 1 to 24, not "):
            Plan({"softmax.table": format}).check(lm.graph)


def test_check_of_corrections(lm) -> None:
    def entry(name: str, **options: Any) -> Entry:
        return Entry(parse("fixed(8,4)"), corrections={name: options})

    Plan({"norm.input": entry("root", bits=12)}).check(lm.graph)
    for site, wrong, message in [
        ("norm.input", entry("rotate", size=4), "no correction 'rotate'; legal here: 'root' with"),
        ("q.input", entry("root", bits=12), "no correction 'root'; legal here: none"),
        ("norm.output", entry("root", bits=12), "no correction 'root'; legal here: none"),
        (
            "norm.input",
            entry("root", b=12),
            "no option 'b' of 'root'; legal here: 'root' with 'bit",
        ),
        ("norm.input", entry("root", bits=33), "root.bits=33, which is no integer from 1 to 32"),
        ("norm.input", entry("root", bits=True), "root.bits=True, which is no integer"),
    ]:
        with pytest.raises(PlanError, match=f"{site}, .* has {message}"):
            Plan({site: wrong}).check(lm.graph)


def test_json_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    Plan({"fc2.weight": "mxint4", "fc1.weight": FULL}).save(path)
    assert path.read_text() == (
        """{
  "version": 1,
  "entries": {
    "fc2.weight": "mxint4",
    "fc1.weight": {
      "format": "int8",
      "axis": 1,
      "scale": 0.5,
      "corrections": {
        "rotate": {
          "size": 4
        }
      }
    }
  }
}
"""
    )
    assert Plan.load(path) == Plan({"fc2.weight": "mxint4", "fc1.weight": FULL})


entries = st.builds(
    Entry,
    st.sampled_from([parse(name) for name in ("mxint4", "fixed(8,4)", "uint8", "nvfp4")]),
    st.none() | st.integers(-4, 4) | st.tuples(st.integers(0, 3), st.integers(1, 4)),
    st.none() | st.floats(1e-30, 1e30) | st.tuples(st.floats(1e-9, 1e9), st.floats(0, 255)),
    st.sampled_from([{}, {"rotate": {"size": 4, "seed": "a"}}]),
)
names = st.text("abc.é#2 ", max_size=6)


@settings(max_examples=50)
@given(st.dictionaries(names, entries, max_size=4))
def test_json_round_trip(made: dict[str, Entry]) -> None:
    plan = Plan(made)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert list(again) == list(plan)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json: not JSON: "),
        ("[1]", "p.json: not a plan; one looks like"),
        ('{"entries": {}}', "p.json: not a plan"),
        ('{"version": 1, "entries": {}, "note": ""}', "p.json: not a plan: it has 'note' beside"),
        (
            '{"version": 1, "entries": {"0.weight": "mxint4", "0.weight": "mxint8"}}',
            "p.json: '0.weight' is there 2 times: keep one",
        ),
        ('{"version": 1, "entries": []}', "p.json: not a plan"),
        ('{"version": 2, "entries": {}}', "p.json: plan version 2; this Quire reads version 1"),
        ('{"version": 1, "entries": {"a": "mxint88"}}', "p.json: a: .*did you mean mxint8"),
        ('{"version": 1, "entries": {"a": 3}}', "p.json: a: 3 is neither a format string"),
        ('{"version": 1, "entries": {"a": {"axis": 1}}}', "p.json: a: an entry needs `format`"),
        ('{"version": 1, "entries": {"a": {"format": "int8", "axes": 1}}}', "has 'format', 'axes'"),
        (
            '{"version": 1, "entries": {"a": {"format": "int8", "axis": "x"}}}',
            "axis='x' .* not a",
        ),
        ('{"version": 1, "entries": {"a": {"format": "int8", "axis": true}}}', "axis=True"),
        ('{"version": 1, "entries": {"*.weight": "int8"}}', "is a pattern, which needs a graph"),
    ],
)
def test_load_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=message):
        Plan.load(path)


def test_load_with_a_graph(tmp_path: Path, mlp) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(PlanError, match=r"p.json: cannot be read: No such file"):
        Plan.load(path)
    Plan({"fc1.wieght": "mxint4"}).save(path)
    assert Plan.load(path) == {"fc1.wieght": Entry(parse("mxint4"))}
    with pytest.raises(PlanError, match=r"p.json: no site 'fc1.wieght' .* did you mean"):
        Plan.load(path, mlp.graph)
    path.write_text('{"version": 1, "entries": {"*.weight": "mxint4", "fc2.weight": "mxint8"}}')
    assert Plan.load(path, mlp.graph) == Plan({"fc1.weight": "mxint4", "fc2.weight": "mxint8"})


def test_diff() -> None:
    a, b = Plan({"x": "mxint4", "y": "int8"}), Plan({"y": "int4", "z": "int8"})
    int4, int8 = Entry(parse("int4")), Entry(parse("int8"))
    assert a.diff(b) == {"x": (Entry(parse("mxint4")), None), "y": (int8, int4), "z": (None, int8)}
    assert a.diff(Plan(a)) == {}
    assert a.diff({name: str(entry.format) for name, entry in a.items()}) == {}


def test_union() -> None:
    a, b = Plan({"x": "mxint4", "y": "int8"}), Plan({"y": "int4", "z": "int8"})
    assert list((a | b).items()) == list(Plan({"x": "mxint4", "y": "int4", "z": "int8"}).items())
    assert a == Plan({"x": "mxint4", "y": "int8"})


def test_str_is_a_table() -> None:
    plan = Plan({"fc1.weight": "mxint4", "b[0].w": FULL})
    assert str(plan) == (
        " site        format\n"
        " fc1.weight  mxint4\n"
        " b[0].w      int8 axis=1 scale=0.5 corrections={'rotate': {'size': 4}}"
    )
