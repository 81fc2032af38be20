"""What corrections do for uniform formats: metrics above those of fp32, on data that none has seen.

The digits ViT, mean of three seeds: loss and KL(fp32 || quantized) in nats an image of the
validation split, calibrated on 256 training images. The character model: bits per character of the
validation text, calibrated on 64 windows of the training text. "weights": the weights of linear
layers alone have the format; "operands": all operands of products have it, and those weights are
corrected. "program": plans of the integer program for at most so many bits, by sensitivities on the
calibration data, over the formats of the examples and the same with these corrections of weights.
No row chooses anything by what it reports.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from record import record
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import characters
import digits
from candidates import ANY, candidates
from training import fit

import quire
from quire.precision import Entry, fit_fixed

SEEDS, EPOCHS, STEPS = (0, 1, 2), 80, 1500
FORMATS = [
    "mxint3",
    "mxint4",
    "bfp(3,scale_bits=8,size=16)",
    "bfp(4,scale_bits=8,size=16)",
    'block(fixed(3,0),size="all",scale=fp32)',
    "int4",
    "block(fixed(4,0),size=32,scale=bf16)",
    "block(ufixed(4,0),size=32,scale=bf16,zero_point=True)",
    "fixed(4,fitted)",
    "mxfp4",
    "nvfp4",
    "nf4",
    "bl(4,scale_bits=8,size=16)",
]
CORRECTIONS = ["", "clip", "bias", "gptq", "gptq+bias", "clip+gptq+bias"]

SEARCHED = [[], ["gptq"], ["gptq", "gptq+bias"]]
BITS = (3.0, 3.5, 4.0, 4.5)

Score = Callable[[nn.Module], dict[str, float]]
Rows = dict[str, dict[str, dict[str, dict[str, float]]]]
"""{format: {scope: {corrections: {metric: above that of fp32}}}}"""


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        visions = [vision(seed, Path(folder)) for seed in SEEDS]
        figures = {
            "digits": mean([run(task.model, task.calibration, score) for task, score in visions]),
            "char_lm": run(*text_model()),
            "program": mean([program(task, score, folder) for task, score in visions]),
        }
    record("corrections", {**figures, "seconds": round(time.perf_counter() - started)})


def mean(parts: Sequence[Any]) -> Any:
    """Tables of one shape, averaged number by number."""
    if isinstance(parts[0], dict):
        return {key: mean([part[key] for part in parts]) for key in parts[0]}
    return round(fmean(parts), 5)


def vision(seed: int, folder: Path) -> tuple[quire.Task, Score]:
    """The digits ViT of a seed and its metrics."""
    task = digits.task(seed, EPOCHS, folder / f"{seed}.safetensors")
    images = digits.load_splits(seed)[1][0]
    with torch.no_grad():
        reference = task.model(images).double().log_softmax(-1)

    def score(model: nn.Module) -> dict[str, float]:
        found = model(images).double().log_softmax(-1)
        kl = functional.kl_div(found, reference, log_target=True, reduction="batchmean")
        return {"loss": task.score(model)["loss"], "kl": float(kl)}

    return task, score


def text_model() -> tuple[nn.Module, Any, Score]:
    """The character model, its calibration data, and its bits per character."""
    torch.manual_seed(0)
    data, validation, _, count = characters.load_texts()
    model = characters.CharacterModel(count)

    def loss() -> torch.Tensor:
        starts = torch.randint(len(data) - characters.CONTEXT, (32,))
        return characters.nats(model, characters.windows(data, starts))

    fit(model, loss, STEPS)
    x = data[: 64 * characters.CONTEXT].view(64, characters.CONTEXT)
    return model.eval(), (x,), partial(characters.measure, text=validation)


@torch.no_grad()
def run(model: nn.Module, data: Any, score: Score) -> Rows:
    """All rows of one model."""
    graph = quire.capture(model, (data[0][:2],))
    fp32 = score(model)
    return {
        format: {
            scope: {
                names or "none": {
                    metric: round(value - fp32[metric], 5)
                    for metric, value in score(corrected(graph, found, data)).items()
                }
                for names in CORRECTIONS
                for found in [plan_with(plan, names)]
                if fits(found, graph)
            }
            for scope, plan in plans(graph, format, data).items()
        }
        for format in FORMATS
    }


@torch.no_grad()
def program(task: quire.Task, score: Score, folder: str) -> dict[str, Any]:
    """{corrections: {bits: metrics above those of fp32}}, and how many evaluations they took."""
    graph = quire.capture(task.model, task.example_inputs)
    fp32, storage = score(task.model), f"{folder}/{id(task)}.journal"
    figures: dict[str, Any] = {}
    for added in SEARCHED:
        formats = candidates(graph)
        for site in quire.sites(graph).values():
            if site.name in formats and site.role == "weight":
                more = [f"{format}+{names}" for format in ANY for names in added]
                formats[site.name] = [*formats[site.name], *more]
        found = quire.sensitivity(task, formats, storage=storage, progress=False)
        rows: dict[str, Any] = {"evaluations": found.evaluations}
        for bits in BITS:
            metrics = score(corrected(graph, found.plan(bits=bits), task.calibration))
            rows[f"{bits} bits"] = {m: round(v - fp32[m], 5) for m, v in metrics.items()}
        figures[", ".join(added) or "none"] = rows
    return figures


def plans(graph: GraphModule, format: str, data: Any) -> dict[str, quire.Plan]:
    """The plans of a format for weights and for all operands of products."""
    operands = [site.name for site in quire.sites(graph).values() if site.is_operand]
    if "fitted" in format:
        width = int(format.removeprefix("fixed(").split(",")[0])
        whole = fit_fixed(graph, data, width, operands)
    else:
        whole = quire.Plan(dict.fromkeys(operands, format))
    weights = {name: e for name, e in whole.items() if name.endswith(".weight")}
    return {"weights": quire.Plan(weights), "operands": whole}


def plan_with(plan: quire.Plan, names: str) -> quire.Plan:
    """The plan with corrections of its weights."""
    options: Mapping[str, Mapping[str, Any]] = {name: {} for name in names.split("+") if name}
    found = quire.Plan(plan)
    for name, entry in plan.items():
        if name.endswith(".weight"):
            found[name] = Entry(entry.format, corrections=options)
    return found


def fits(plan: quire.Plan, graph: GraphModule) -> bool:
    """Whether the weights can have the corrections of a plan."""
    try:
        plan.check(graph)
    except quire.QuireError:
        return False
    return True


def corrected(graph: GraphModule, plan: quire.Plan, data: Any) -> nn.Module:
    return quire.quantize(*quire.correct(graph, plan, data))


if __name__ == "__main__":
    main()
