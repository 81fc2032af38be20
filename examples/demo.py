"""`make demo`: the digits ViT trained, searched, and written as a page, a plan and a checkpoint;
then an MLP, as an accelerator."""

from pathlib import Path
from shutil import rmtree

import torch
import typer
from accelerator import accelerator
from candidates import candidates
from comparison import BOUNDS, as_table, compare
from digits import load_splits, score, task
from rich import print
from torch import nn

import quire
from quire.explore import sample_tensors
from quire.report import StudyResults, page


def main(
    seed: int = 0, epochs: int = 80, trials: int = 1400, out: Path = Path("runs/demo")
) -> None:
    """Train, search, pack, compare, and draw the page; then emit, simulate and synthesise."""
    torch.set_num_threads(1)  # the tensors are too small to share
    rmtree(out, ignore_errors=True)
    found = task(seed, epochs, out / "fp32.safetensors")
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
    largest = sorted(study.sites, key=lambda site: -site["elements"])
    tensors = sample_tensors(found, chosen.plan, [site["name"] for site in largest])
    page(StudyResults.from_json(study.results(chosen, figures, tensors)), out / "page.html")
    print(as_table(figures))
    accelerator(out, seed, epochs)
    for file in sorted(out.glob("*.*")):
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
