"""`make demo`: the digits ViT trained, searched, and written as a page, a plan and a checkpoint."""

from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import torch
import typer
from candidates import candidates
from digits import load_splits, score, task
from rich import print
from rich.table import Column, Table
from torch.fx import GraphModule

import quire
from quire.explore import Study
from quire.report import Figure, StudyResults, page, sample

GOALS, LIMITS = {"loss": "min", "bits": "min"}, {"bits": 6.5}
BOUNDS = (4.0, 3.5)  # average bits of the two plans that are compared with fp32


def compare(study: Study, graph: GraphModule, seed: int) -> list[Figure]:
    """fp32, the uniform plans and two mixed ones; the test split is used here and nowhere else."""
    trials = {trial.label: trial for trial in study.trials if trial.label}
    trials |= {f"mixed, at most {bits} bits": study.best_trial(max_bits=bits) for bits in BOUNDS}
    figures: list[Figure] = []
    for label, trial in sorted(trials.items(), key=lambda item: -item[1].metrics["bits"]):
        with torch.no_grad():
            test = score(quire.quantize(graph, trial.plan), load_splits(seed)[2])
        bits, loss = trial.metrics["bits"], trial.metrics["loss"]
        best = study.best_trial(max_bits=bits).metrics["loss"]
        metrics = {"bits": bits, "validation loss": loss, "least loss at that size": best}
        metrics["test accuracy"] = test["accuracy"]
        figures.append(Figure(label.removeprefix("uniform "), "", metrics))
    return figures


def as_table(figures: list[Figure]) -> Table:
    """The figures in columns."""
    table = Table(Column(no_wrap=True), *figures[0].metrics, box=None)
    for figure in figures:
        bits, loss, best, accuracy = figure.metrics.values()
        table.add_row(figure.label, f"{bits:.2f}", f"{loss:.4f}", f"{best:.4f}", f"{accuracy:.1%}")
    return table


def main(seed: int = 0, epochs: int = 80, trials: int = 700, out: Path = Path("runs/demo")) -> None:
    """Train, search, pack, compare, and draw the page."""
    torch.set_num_threads(1)  # the tensors are too small to share
    rmtree(out, ignore_errors=True)
    found = task(seed, epochs, out / "fp32.pt")
    graph = quire.capture(found.model, found.example_inputs)
    store = str(out / "study.journal")
    study = quire.search(
        found, candidates(graph), GOALS, limits=LIMITS, name="digits", trials=trials, storage=store
    )
    chosen = study.best_trial(max_bits=BOUNDS[0])
    chosen.plan.save(out / "plan.json")
    q = quire.quantize(graph, chosen.plan)
    quire.save(q, out / "model.safetensors")
    (x,) = found.example_inputs
    assert torch.equal(quire.load(found.model, out / "model.safetensors")(x), q(x))
    figures = compare(study, graph, seed)
    sites = [s for s in quire.sites(graph).values() if s.is_operand and s.role == "weight"]
    weights = [(s.name, found.model.get_parameter(s.name), s.axis) for s in sites]
    samples = tuple(sample(name, chosen.formats[name], w, axis) for name, w, axis in weights)
    results = StudyResults.from_json(study.results() | {"chosen": chosen.number})
    page(replace(results, figures=tuple(figures), tensors=samples), out / "page.html")
    print(as_table(figures))
    for file in sorted(out.iterdir()):
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
