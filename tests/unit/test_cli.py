"""The command line: help, tables, a search from end to end, errors as one message."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from quire import cli
from quire.explore import Study, Task, sensitivity
from quire.formats import presets
from quire.formats.registry import EXAMPLES
from quire.graph import capture
from quire.hardware import DesignCosts
from quire.precision import Plan
from quire.software.measure import Figures

TASK = """
import torch
from torch import nn
from quire import Task

def task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = torch.randn(16, 32)
    y = model(x).detach()
    return Task(model, (x[:2],), lambda q: {"error": 0.01 + float((q(x) - y).square().mean())})

def broken(size):
    return task()

def moody():
    calm, calls = task(), []
    def evaluate(q):
        calls.append(q)
        if len(calls) == 3:
            raise ValueError("no luck")
        return {**calm.evaluate(q), **({} if len(calls) == 4 else {"extra": 1})}
    return Task(calm.model, calm.example_inputs, evaluate)
"""

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Main:
    """`main(*arguments)` runs the command line in a folder with a task; (code, output, errors)."""
    (tmp_path / "cli_demo.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("cli_demo", None)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quire", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


COMMANDS = [
    *([], ["formats"], ["plan"], ["plan", "sites"], ["plan", "diff"], ["search"], ["report"]),
    ["sensitivity"],
    *(["emit"], ["simulate"], ["synth"], ["explain"], ["bench"], ["bench", "compile"]),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert " ".join(["Usage:", *command][:1]) in result.output
    for line in result.output.splitlines():
        assert len(line) <= 100


def test_version(main: Main) -> None:
    assert main("--version") == (0, f"{version('quire')}\n", "")


def test_help_starts_without_torch_or_optuna() -> None:
    script = "import sys, quire.cli; print(sorted({'torch', 'optuna', 'plotly'} & {*sys.modules}))"
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert output.strip() == "[]"


def test_formats_prints_a_table_or_descriptions(main: Main) -> None:
    code, output, _ = main("formats")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines()[1:] if line.strip()}
    assert rows["mxint4"] == ["4.25", "block(fixed(4,2),size=32,scale=pow2(8))"]
    assert rows["fp32"] == ["32", "minifloat(e=8,m=23,special=ieee)"]
    code, output, _ = main("formats", "mxint8", "fixed(4,2)")
    assert code == 0
    assert "-1.984375 to 1.984375" in output
    assert "-2 to 1.75" in output


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_of_formats_fit_a_terminal(width: int) -> None:
    text = StringIO()
    for table in (cli.plans._presets_table(), cli.plans._families_table()):
        Console(width=width, file=text).print(table, markup=False)
    words = text.getvalue().split()
    assert {f.long_form() for f in presets.values()} < set(words)
    assert set(EXAMPLES.values()) < set(words)
    assert "…" not in text.getvalue()


def test_an_error_is_one_message_and_code_2(main: Main) -> None:
    code, output, errors = main("formats", "mxint99")
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert "mxint99" in errors
    assert "Traceback" not in errors


def test_plan_sites_lists_them(main: Main) -> None:
    code, output, _ = main("plan", "sites", "cli_demo:task", "--operands")
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert rows[1] == ["0.input", "linear", "activation", "1x32", "32", "512"]
    assert rows[2] == ["0.weight", "linear", "weight", "16x32", "512", "512"]
    code, output, _ = main("plan", "sites", "cli_demo:task", "--json")
    names = [row["name"] for row in json.loads(output)]
    assert {"0.input", "0.bias", "2.weight"} < set(names)


def test_plan_diff_says_where_plans_differ(main: Main, tmp_path: Path) -> None:
    Plan({"a": "mxint4", "b": "mxint8", "c": "mxint4+clip"}).save(tmp_path / "a.json")
    Plan({"a": "mxint6", "b": "mxint8", "c": "mxint4"}).save(tmp_path / "b.json")
    code, output, _ = main("plan", "diff", "a.json", "b.json")
    assert code == 1
    assert [line.split() for line in output.splitlines()] == [
        ["site", "a.json", "bits", "b.json", "bits"],
        ["a", "mxint4", "4.25", "mxint6", "6.25"],
        ["c", "mxint4+clip", "4.25", "mxint4", "4.25"],
        ["2", "of", "3", "sites", "differ"],
    ]
    assert main("plan", "diff", "a.json", "a.json")[:2] == (0, "the plans are equal (3 sites)\n")
    assert main("plan", "diff", "a.json", "none.json")[0] == 2


def test_plan_diff_with_a_task_compares_costs(main: Main, tmp_path: Path) -> None:
    Plan({"0.weight": "mxint4"}).save(tmp_path / "a.json")
    Plan({"*.weight": "mxint4"}).save(tmp_path / "b.json")
    code, output, _ = main("plan", "diff", "a.json", "b.json", "--task", "cli_demo:task")
    assert code == 1
    rows = [line.split() for line in output.splitlines()]
    assert ["2.weight", "-", "32", "mxint4", "4.5"] in rows  # rows of 16 values have a scale each
    stored = [512 * 4.25 + 64 * 32, 512 * 4.25 + 64 * 4.5]
    numbers = [f"{bits / (512 + 64):,.6g}" for bits in stored]
    change = f"{stored[1] / stored[0] - 1:+.1%}"
    assert ["weight_bits", *numbers, change] in rows
    assert rows[-1] == ["1", "of", "2", "sites", "differ"]
    code, output, _ = main("plan", "diff", "a.json", "b.json", "--task", "cli_demo:task", "--json")
    assert code == 1
    found = json.loads(output)
    assert found["sites"] == 2
    assert found["differences"] == [
        {"site": "2.weight", "first": None, "second": "mxint4", "bits": [32.0, 4.5]}
    ]
    assert found["costs"]["weight_bits"] == [bits / (512 + 64) for bits in stored]


FORMATS = ["mxint3", "mxint4", "mxint6"]
SENSITIVITY = "sensitivity cli_demo:task -f mxint3 -f mxint4 -f mxint6"


def test_sensitivity_prints_a_table_and_saves_the_plan_within_limits(
    main: Main, tmp_path: Path
) -> None:
    code, output, _ = main(*SENSITIVITY.split(), "--csv", "s.csv", "-l", "bits=4")
    assert code == 0
    with (tmp_path / "s.csv").open() as file:
        values = {(row["site"], row["format"]): row["kl"] for row in csv.DictReader(file)}
    assert len(values) == 12
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert rows["site"] == ["mxint3", "mxint4", "mxint6"]
    for site in ("0.input", "0.weight", "2.input", "2.weight"):
        assert rows[site] == [f"{float(values[site, name]):.2g}" for name in rows["site"]]
    plan = Plan.load(tmp_path / "plan.json")
    predicted = sum(float(values[site, str(entry)]) for site, entry in plan.items())
    assert rows["plan.json"][0] == f"{predicted:.5g}"
    assert float(rows["plan.json"][1]) <= 4.0


def test_sensitivity_saves_a_front(main: Main, tmp_path: Path) -> None:
    command = [*SENSITIVITY.split(), "--front", "bits=3:5:0.5", "--plan", "p.json"]
    code, output, _ = main(*command, "-l", "memory=1500")
    assert code == 0
    rows = [line.split() for line in output.splitlines() if line.startswith("p-")]
    bits = [float(row[2]) for row in rows]
    assert bits == sorted(bits)
    assert len(bits) > 2
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    for row, bound in zip(rows, (3.5, 4.0, 4.5, 5.0), strict=False):  # none has 3 bits
        assert float(row[2]) <= bound
        assert Plan.load(tmp_path / row[0]).keys() == {"0.input", "0.weight", "2.input", "2.weight"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--front bits=3", "--front 'bits=3': '3' is no FIRST:LAST:STEP; write bits=3:6:0.5"),
        ("--front bits=3:2:1", "is no FIRST:LAST:STEP"),
        ("--front bits=3:6:0", "is no FIRST:LAST:STEP"),
        ("--front bits=1:9:0.001", "names 8,001 bounds, more than 1,000"),
        ("--front size=3:6:1", "'size' is no cost"),
        ("--front bits=1:2:1", "no bound of the front is met by any plan"),
        ("-l bits=2", "no plan meets the limit bits <= 2"),
        ("-l bits", "--limit 'bits': write COST=..., such as bits=4"),
        ("--kind taste", "kind='taste': give one of kl, error, fisher"),
    ],
)
def test_sensitivity_names_what_is_wrong(main: Main, more: str, words: str) -> None:
    code, _, errors = main(*SENSITIVITY.split(), *more.split())
    assert code == 2
    assert words in " ".join(errors.split())


def test_search_can_start_from_the_front_of_the_program(main: Main, tmp_path: Path) -> None:
    code, _, _ = main(*SEARCH.split(), "--trials", "30", "--start", "front")
    assert code == 0
    written = json.loads((tmp_path / "study.json").read_text())
    found = sensitivity(Task.resolve("cli_demo:task"), FORMATS, progress=False)
    program = found.program()
    begun = [trial for trial in written["trials"] if not trial["label"]][:4]
    for trial in begun:  # the least predicted loss at its size
        total = program.total(found.space.genome_of(trial["plan"]))
        least = program.total(program.solve({"bits": trial["metrics"]["bits"]}))
        assert total == pytest.approx(least, rel=1e-9)
    assert written["sensitivities"]["kind"] == "kl"
    assert written["program"]["relaxed"]["bits"]["bound"] == 5.25
    code, _, _ = main("report", "study.json", "-o", "page.html")
    assert code == 0
    assert main(*SEARCH.split(), "--start", "back")[0] == 2


SEARCH = "search cli_demo:task -f mxint3 -f mxint4 -f mxint6 -o error=min -o bits=min -l bits=5"


def test_search_writes_plan_results_and_table(main: Main, tmp_path: Path) -> None:
    code, output, _ = main(*SEARCH.split(), "--trials", "12", "--csv", "trials.csv")
    assert code == 0
    study = Study.load("search", str(tmp_path / "study.journal"))
    assert len(study.trials) == 12
    assert Plan.load(tmp_path / "plan.json") == study.best()
    written = json.loads((tmp_path / "study.json").read_text())
    assert [tensor["site"] for tensor in written.pop("tensors")] == list(study.best())
    assert written.items() <= study.results().items()
    with (tmp_path / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    for trial in study.pareto():
        assert f"{trial.metrics['error']:.5g}" in output
    code, output, _ = main("report", "study.json", "-o", "page.html")
    assert code == 0
    assert "uniform mxint4" in (tmp_path / "page.html").read_text()


def test_search_by_the_resources_of_a_circuit(main: Main, tmp_path: Path) -> None:
    asked = "-f fixed(4..6,fitted) -o error=min -o area=min -l DSP=0 --rate 1e6 --trials 12"
    code, output, _ = main("search", "cli_demo:task", *asked.split())
    assert code == 0
    study = Study.load("search", str(tmp_path / "study.journal"))
    found = Task.resolve("cli_demo:task")
    graph = capture(found.model, found.example_inputs)
    best = study.best_trial()
    costs = DesignCosts(found.example_inputs, rate=1e6)(graph)(best.plan)
    assert costs["DSP"] == 0
    assert {name: best.metrics[name] for name in costs} == costs
    assert "interval" in output
    layers = json.loads((tmp_path / "study.json").read_text())["layers"]
    assert {"m0", "m2"} < set(layers)
    assert sum(layer["LUT"] for layer in layers.values()) == best.metrics["LUT"]
    code, _, errors = main("search", "cli_demo:task", *asked.split(), "--device", "NVIDIA H200")
    assert code == 2
    assert "give --rate, for a circuit, or --device, for a GPU" in " ".join(errors.split())


def test_search_by_the_time_on_a_gpu(main: Main, tmp_path: Path) -> None:
    code, _, _ = main(*SEARCH.split(), "--trials", "6", "--device", "NVIDIA H200")
    assert code == 0
    study = Study.load("search", str(tmp_path / "study.journal"))
    assert all(trial.metrics["microseconds"] > 0 for trial in study.trials)
    code, _, errors = main(*SEARCH.split(), "--device", "abacus")
    assert code == 2
    assert "no times of 'abacus'" in " ".join(errors.split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cli_demo:task->cli_demo:tusk", "no function 'tusk'"),
        ("error=min->mistake=min", "objective 'mistake' is no metric"),
        ("error=min->error", "--objective 'error': write METRIC=..., such as error=min"),
        ("bits=5->bits=five", "'five' is no number; write bits=4"),
        ("bits=5->bits", "--limit 'bits': write METRIC=..., such as bits=4"),
        ("bits=5->error<=low", "limit 'error' is '<= low': give a number"),
        ("bits=5->size>=0.5", "limit 'size' is no metric of this task"),
        ("cli_demo:task->cli_demo:broken", "broken(), called without arguments, raised TypeError"),
        ("bits=5->bits=2", "no plan meets the limit bits <= 2: the least is 3.28205"),
        ("mxint3->mxint3.5", "mxint3.5"),
    ],
)
def test_search_names_what_is_wrong(main: Main, change: str, words: str) -> None:
    code, _, errors = main(*SEARCH.replace(*change.split("->")).split(), "--trials", "4")
    assert code == 2
    assert words in " ".join(errors.split())
    assert "Traceback" not in errors


def test_paths_are_checked_before_the_search(main: Main, tmp_path: Path) -> None:
    code, _, errors = main(*SEARCH.split(), "--plan", str(tmp_path / "none" / "p.json"))
    assert code == 2
    assert "cannot be written" in " ".join(errors.split())
    assert not (tmp_path / "study.journal").exists()


def test_failed_trials_are_told_and_a_metric_of_some_plans_has_its_column(
    main: Main, tmp_path: Path
) -> None:
    code, output, _ = main(*SEARCH.replace(":task", ":moody").split(), "--trials", "6")
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    head = next(row for row in rows if row[:1] == ["trial"])
    by_number = {row[0]: row for row in rows if row and row[0].isdigit()}
    study = Study.load("search", str(tmp_path / "study.journal"))
    assert by_number["1"][head.index("extra")] == "1"
    assert by_number["3"][head.index("extra")] == "-"
    assert by_number["3"][head.index("bits")] == f"{study.trials[3].metrics['bits']:.5g}"
    assert "of 6 trials 1 failed, the first, trial 2, with ValueError: no luck" in output


def test_a_search_that_finds_nothing_says_why(main: Main) -> None:
    search = SEARCH.replace(":task", ":moody").replace("bits=5", "extra>=3")
    code, _, errors = main(*search.split(), "--trials", "4")
    assert code == 2
    words = " ".join(errors.split())
    assert "no trial of 4 is complete and within the limits: 2 failed, the first" in words
    assert "the best for extra >= 3 is 1" in words


def test_a_report_of_nothing_is_an_error(main: Main) -> None:
    code, _, errors = main("report", "nofile")
    assert code == 2
    assert "nofile is no file" in errors


EMIT = "emit cli_demo:task build --plan p.json --lanes 0=8,1 --lanes 2=4,1"


@pytest.fixture
def emitted(main: Main, tmp_path: Path) -> Main:
    """`main`, after `quire emit` into the folder build."""
    Plan({"0.input": "mxint8", "0.weight": "mxint4", "2.*": "fixed(8,4)"}).save(tmp_path / "p.json")
    code, output, errors = main(*EMIT.split())
    assert (code, errors) == (0, "")
    assert "lanes 8 x 1" in output
    assert "lanes 4 x 1" in output
    return main


def test_emit_writes_a_design_and_the_plan_that_fits_it(emitted: Main, tmp_path: Path) -> None:
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert [stage["name"] for stage in manifest["stages"]] == ["m0", "m2"]
    fitted = Plan.load(tmp_path / "build" / "plan.json")
    assert str(fitted["0.weight"]) == "mxint4"
    assert str(fitted["0.input"]).startswith("bfp(8,scale_bits=4,size=32,bias=")
    assert str(fitted["0.bias"]).startswith("fixed(16,")


def test_corrections_are_made_on_the_data_of_the_task(main: Main, tmp_path: Path) -> None:
    entries = {"0.input": "mxint8", "0.weight": "mxint4+gptq+bias", "2.*": "fixed(8,4)"}
    Plan(entries).save(tmp_path / "p.json")
    assert main(*EMIT.split())[0] == 0
    kept = Plan.load(tmp_path / "build" / "plan.json")
    assert str(kept["0.weight"]) == "mxint4+gptq+bias"
    code, output, _ = main("simulate", "cli_demo:task", "build", "--samples", "3")
    assert code == 0
    assert "12 values compared, none differs" in output
    kept.without_corrections().save(tmp_path / "plain.json")
    code, _, errors = main("simulate", "cli_demo:task", "build", "--plan", "plain.json")
    assert code == 2
    assert "in the exact graph" in " ".join(errors.split())


def test_a_plan_that_was_edited_in_the_folder_is_kept(emitted: Main, tmp_path: Path) -> None:
    assert emitted(*EMIT.split())[0] == 0  # what emit wrote it replaces
    file = tmp_path / "build" / "plan.json"
    edited = Plan.load(file)
    edited["0.weight"] = "mxint6"
    edited.save(file)
    code, _, errors = emitted(*EMIT.split())
    assert code == 2
    assert "is not as quire emit wrote it, and would be lost" in errors
    assert str(Plan.load(file)["0.weight"]) == "mxint6"
    assert emitted(*EMIT.replace("p.json", "build/plan.json").split())[0] == 0
    assert str(Plan.load(file)["0.weight"]) == "mxint6"


def test_lanes_auto_are_the_default(emitted: Main, tmp_path: Path) -> None:
    manifests: list[bytes] = []
    for lanes in ([], ["--lanes", "auto"]):
        assert emitted("emit", "cli_demo:task", "auto", "--plan", "p.json", *lanes)[0] == 0
        manifests.append((tmp_path / "auto" / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1] != (tmp_path / "build" / "manifest.json").read_bytes()


def test_a_simulation_from_the_command_line_is_compared(emitted: Main, tmp_path: Path) -> None:
    arguments = "simulate cli_demo:task build --samples 5 --stalls 0.2 --seed 3 --probe m0"
    code, output, _ = emitted(*arguments.split(), "--waveform", "wave.vcd")
    assert code == 0
    assert "5 samples" in output
    assert "20 values compared, none differs" in output
    assert "m0, sample 0: [" in output
    assert "$enddefinitions" in (tmp_path / "wave.vcd").read_text()

    # The comparison is with the graph that is given, not with what was emitted.
    other = Plan.load(tmp_path / "build" / "plan.json")
    other["0.weight"] = "mxint6"
    other.save(tmp_path / "other.json")
    code, _, errors = emitted("simulate", "cli_demo:task", "build", "--plan", "other.json")
    assert code == 2
    assert "in the exact graph" in errors


def test_synth_prints_a_table_or_json_and_the_page_shows_it(emitted: Main, tmp_path: Path) -> None:
    code, output, _ = emitted("synth", "build", "--target", "ecp5", "--json")
    assert code == 0
    found = json.loads(output)
    assert {"m0", "m2"} < set(found["layers"])
    layers = found["layers"].values()
    assert found["total"]["LUT"] == sum(layer["LUT"] for layer in layers) > 0
    code, output, _ = emitted("synth", "build", "--target", "ecp5")
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert rows["total"][0] == f"{found['total']['LUT']:,}"
    assert emitted("report", "build", "-o", "design.html")[0] == 0
    page = (tmp_path / "design.html").read_text()
    measured = rf'\["LUT",\d+,{found["total"]["LUT"]}\]'
    assert re.search(measured, page)
    # Figures of the design that was there before are not those of another one.
    assert emitted(*EMIT.replace("8,1", "4,1").split())[0] == 0
    assert emitted("report", "build", "-o", "design.html")[0] == 0
    assert not re.search(measured, (tmp_path / "design.html").read_text())


def test_check_lists_what_cannot_become_hardware(main: Main, tmp_path: Path) -> None:
    Plan({"0.input": "mxint8", "0.weight": "mxint4", "2.*": "bf16"}).save(tmp_path / "p.json")
    code, output, errors = main("emit", "cli_demo:task", "--plan", "p.json", "--check")
    assert code == 2
    assert "the graph cannot become hardware" in errors
    assert "2: an exact sum of its products needs" in " ".join(errors.split())
    Plan({"*.input": "mxint8", "*.weight": "mxint4"}).save(tmp_path / "p.json")
    code, output, errors = main("emit", "cli_demo:task", "--plan", "p.json", "--check")
    assert (code, errors) == (0, "")
    assert "nothing was written" in output
    code, output, _ = main(
        "emit", "cli_demo:task", "-p", "p.json", "--check", "--lanes", "2=unroll"
    )
    assert code == 0
    assert "m2: 4 x 16, unrolled" in output
    code, _, errors = main("emit", "cli_demo:task", "-p", "p.json", "--check", "--dsp", "1")
    assert code == 2
    assert "DSP" in errors
    assert not list(tmp_path.rglob("*.sv"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("emit cli_demo:task --plan p.json", "name the folder where the design goes"),
        ("emit cli_demo:task cli_demo.py --plan p.json", "'cli_demo.py' is a file"),
        ("emit cli_demo:task build --plan none.json", "none.json: cannot be read"),
        ("emit cli_demo:task build --plan p.json --lanes 0=8", "'8' is not M_IN,M_OUT or unroll"),
        ("emit cli_demo:task build --plan p.json --lanes 0", "write LAYER=..., such as fc1=8,1"),
        ("emit cli_demo:task build --plan p.json --lanes fc9=1,1", "lanes names 'fc9'"),
        ("emit cli_demo:task build --plan p.json --rate nan", "rate=nan: give samples a second"),
        ("emit cli_demo:task build --plan p.json --rate 0", "rate=0.0: give samples a second"),
        ("emit cli_demo:task build --plan p.json --clock -1", "clock=-1.0: give Hz"),
        ("emit cli_demo:task build --plan p.json --dsp -1", "dsp=-1: give a whole number"),
        ("emit cli_demo:task build --plan p.json --rate 9e8", "takes 1: give rate=200000000"),
        ("emit cli_demo:task build --plan p.json --lanes 0=0,1", "lanes of 0 are (0, 1): give"),
        ("simulate cli_demo:task build", "is not a folder that quire.emit wrote: name one"),
        ("simulate cli_demo:task build --stalls 1.5", "stalls of sources are 1.5"),
        ("simulate cli_demo:task build --waveform no/wave.vcd", "cannot be written"),
        ("synth build", "is not a folder that quire.emit wrote"),
    ],
)
def test_hardware_commands_name_what_is_wrong(
    main: Main, tmp_path: Path, arguments: str, words: str
) -> None:
    Plan({"*.input": "mxint8", "*.weight": "mxint4"}).save(tmp_path / "p.json")
    code, _, errors = main(*arguments.split())
    assert code == 2
    assert words in " ".join(errors.split())
    assert "Traceback" not in errors
    assert not (tmp_path / "build").exists()


def test_bench_compile_tells_what_failed_and_what_had_no_time(
    main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(model: str, way: str) -> dict[str, object]:
        counts = {"breaks": 0, "kernels": 1, "peak_bytes": 0}
        times = {"first_s": 1.0, "steady_s": 1e-3, "device_s": None, "break_even": None}
        return Figures(model, way, "cpu", **times, **counts).to_json()  # type: ignore[arg-type]

    figures = [row("A", "eager"), row("B", "eager"), row("A", "compiled")]
    lost = {
        "figures": figures,
        "failures": {"MLP: eager": "no luck"},
        "left_out": ["MLP: quire", "b"],
    }
    kept = {"figures": [], "failures": {}, "left_out": []}
    monkeypatch.setattr(
        "quire.software.compile_bench.run",
        lambda models, device, **options: {"device": device, "models": lost, "attention": kept},
    )
    monkeypatch.setattr("quire.software.compile_bench.devices", lambda: ["cpu"])
    code, output, _ = main("bench", "compile")
    assert code == 0
    lines = output.splitlines()
    shown = [line.split()[:2] for line in lines if line[:1] in {"A", "B"}]
    assert shown == [["A", "eager"], ["A", "compiled"], ["B", "eager"]]
    assert "failed on cpu: MLP: eager: no luck" in lines
    assert "no time for 2 more on cpu, MLP: quire the first: raise --seconds" in lines
    assert len([line for line in lines if line.startswith(("failed", "no time"))]) == 2
    assert main("bench", "compile", "--repeats", "0")[0] == 2
    assert main("bench", "compile", "--seconds", "-1")[0] == 2
