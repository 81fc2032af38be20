"""`make demo`: the digits ViT trained, searched, and written as a page, a plan and a checkpoint."""

from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import torch
import typer
from candidates import candidates
from comparison import BOUNDS, as_table, compare
from digits import load_splits, score, task
from rich import print
from torch import nn

import quire
from quire.report import StudyResults, page, sample


def main(seed: int = 0, epochs: int = 80, trials: int = 700, out: Path = Path("runs/demo")) -> None:
    """Train, search, pack, compare, and draw the page."""
    torch.set_num_threads(1)  # the tensors are too small to share
    rmtree(out, ignore_errors=True)
    found = task(seed, epochs, out / "fp32.pt")
    graph = quire.capture(found.model, found.example_inputs)
    study = quire.search(
        found,
        candidates(graph),
        {"loss": "min", "bits": "min"},
        limits={"bits": 6.5},  # the uniform plans up to there are run first
        name="digits",
        trials=trials,
        storage=f"{out}/study.journal",
    )
    chosen = study.best_trial(max_bits=BOUNDS[0])
    chosen.plan.save(out / "plan.json")
    q = quire.quantize(graph, chosen.plan)
    quire.save(q, out / "model.safetensors")
    (x,) = found.example_inputs
    assert torch.equal(quire.load(found.model, out / "model.safetensors")(x), q(x))

    def test(model: nn.Module) -> dict[str, float]:
        return {"accuracy": score(model, load_splits(seed)[2])["accuracy"]}

    figures = compare(study, graph, test)  # the test split is used here and nowhere else
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
