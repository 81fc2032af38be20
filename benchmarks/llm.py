"""A decoder of 8e9 random weights in bf16 and in codes: memory, prefill and decoding, on a GPU.

Each step runs as a CUDA graph; a figure is the median of its replays. Memory is compared with what
the plan predicts, and what codes do not save is listed. The products are also timed alone, which
is compared with the prediction of `quire.software.cost` where the table of kernels has the device.
`--small` (and a machine without a GPU) takes a small model, without CUDA graphs.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from formats import graphed, in_turns, seconds_on_cpu, seconds_on_gpu
from llama import LARGE, SMALL, Decoder, Size, random_decoder
from record import RESULTS, record
from torch import Tensor, nn

import quire
from quire.errors import KernelError
from quire.software.cost import DeviceCostModel, memory
from quire.software.mx.layout import format_of, row_blocks, row_bytes
from quire.software.mx.linear import MXLinear

PLANS: dict[str, dict[str, str]] = {
    "bf16": {},
    "mxint8": {"*_proj.weight": "mxint8", "head.weight": "mxint8"},
    "mxint4": {"*_proj.weight": "mxint4", "head.weight": "mxint4"},
    "mixed": {  # 4 bits where most of the weights are
        "*_proj.weight": "mxint8",
        "*.gate_up_proj.weight": "mxint4",
        "*.down_proj.weight": "mxint4",
        "head.weight": "mxint8",
    },
}
BATCHES = (1, 8, 32)
DTYPE = torch.bfloat16
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def allocated(tensors: Iterable[Tensor]) -> int:
    """Bytes that hold the tensors: those that CUDA's allocator gave out, or their own."""
    if GPU:
        gc.collect()
        return torch.cuda.memory_allocated()
    return sum(t.numel() * t.element_size() for t in tensors)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """The median time of a run, on a GPU as a replayed graph."""
    clock = seconds_on_gpu if GPU else seconds_on_cpu
    return in_turns({"": graphed(run) if GPU else run}, repeats, clock)[""]


class Generation:
    """A decoder that goes on from token to token in place, which a CUDA graph can hold."""

    def __init__(self, model: Decoder, batch: int) -> None:
        self.model, self.cache = model, model.empty_cache(batch)
        self.tokens = torch.arange(batch, device=DEVICE)
        self.position = torch.full((1,), model.size.context, device=DEVICE)

    def __call__(self) -> None:
        logits = self.model.step(self.tokens, self.position, self.cache)
        self.tokens.copy_(logits.argmax(-1))
        self.position += 1

    @property
    def cache_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.cache)


def products(model: Decoder, batch: int) -> Callable[[], None]:
    """Every linear layer once, on inputs of a step, and nothing else."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | MXLinear)]
    sizes = {layer.in_features for layer in layers}
    inputs = {k: torch.randn(batch, k, device=DEVICE, dtype=DTYPE) for k in sizes}

    def run() -> None:
        for layer in layers:
            layer(inputs[layer.in_features])

    return run


def decoding(model: Decoder, batch: int, repeats: int) -> dict[str, Any]:
    """Time of a step, and of its products alone, and the memory besides the weights."""
    before = allocated(())
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    generation = Generation(model, batch)
    step = median_seconds(generation, repeats)
    peak = torch.cuda.max_memory_allocated() - before if GPU else generation.cache_bytes
    alone = median_seconds(products(model, batch), repeats)
    return {
        "step, us": round(1e6 * step, 1),
        "tokens a second": round(batch / step, 1),
        "linear layers alone, us": round(1e6 * alone, 1),
        "KV cache, bytes": generation.cache_bytes,
        "activations and workspace, bytes": peak - generation.cache_bytes,
    }


def prefill(model: Decoder, repeats: int) -> dict[str, Any]:
    """Time of a prompt that fills the context, at batch 1."""
    n, cache = model.size.context, model.empty_cache(1)
    tokens = torch.arange(n, device=DEVICE).unsqueeze(0) % model.size.vocabulary
    seconds = median_seconds(partial(model.prefill, tokens, cache), repeats)
    return {"prompt": n, "ms": round(1e3 * seconds, 3)}


def account(model: Decoder) -> dict[str, int]:
    """Bytes of what codes hold, and of what they leave as it was."""
    coded = [m for m in model.modules() if isinstance(m, MXLinear)]
    plain = [m for m in model.modules() if isinstance(m, nn.Linear)]
    pairs = [(format_of(m.format), m) for m in coded]
    return {
        "codes": sum(m.out_features * row_bytes(fmt, m.in_features) for fmt, m in pairs),
        "scales": sum(m.out_features * row_blocks(fmt, m.in_features) for fmt, m in pairs),
        "embedding": 2 * model.embed.weight.numel(),
        "norms": sum(2 * p.numel() for p in model.parameters() if p.ndim == 1),
        "linear layers in bf16": sum(2 * m.weight.numel() for m in plain),
    }


def logits_against_values(model: Decoder, tokens: Tensor) -> dict[str, float]:
    """How the logits of a model in codes differ from those with its weights as bf16 values.

    The model has those values afterwards.
    """
    run = partial(model.prefill, tokens, model.empty_cache(len(tokens)))
    codes = run().float()
    for path, layer in [(p, m) for p, m in model.named_modules() if isinstance(m, MXLinear)]:
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(layer.weight, requires_grad=False)
        model.set_submodule(path, linear)
    values = run().float()
    difference, size = codes - values, values.square().mean().sqrt()
    divergence = (values.softmax(-1) * (values.log_softmax(-1) - codes.log_softmax(-1))).sum(-1)
    return {
        "relative difference, RMS": float(difference.norm() / values.norm()),
        "largest difference over RMS": float(difference.abs().max() / size),
        "KL divergence, nats": float(divergence.mean()),
    }


def predicted(size: Size, plan: dict[str, str], batch: int) -> dict[str, float] | None:
    """The prediction of a step's products from the table of kernels, if it has this device."""
    with torch.device("meta"):
        model = Decoder(size).to(DTYPE)
    device = torch.cuda.get_device_name() if GPU else "cpu"
    try:
        found = DeviceCostModel(model, device, batch=batch, dtype=DTYPE)(plan)
    except KernelError:
        return None
    return {"linear layers, us": round(found.microseconds, 1), "table's error": found.error}


def measure(size: Size, plan: dict[str, str], repeats: int) -> dict[str, Any]:
    """The figures of one plan."""
    before = allocated(())
    model = random_decoder(size, DEVICE, DTYPE)
    expected = memory(model, plan, DTYPE)
    quire.apply(model, plan, quiet=True)
    held = allocated((*model.parameters(), *model.buffers())) - before
    row: dict[str, Any] = {
        "memory, bytes": held,
        "predicted, bytes": expected,
        "memory over prediction": round(held / expected, 5),
        "account, bytes": account(model),
        "prefill": prefill(model, max(3, repeats // 3)),
    }
    for batch in BATCHES:
        row[f"batch {batch}"] = decoding(model, batch, repeats)
        row[f"batch {batch}"]["predicted"] = predicted(size, plan, batch)
    if any(isinstance(m, MXLinear) for m in model.modules()):
        tokens = torch.arange(size.context, device=DEVICE).view(2, -1)
        row["logits against bf16 values"] = logits_against_values(model, tokens)
    return row


def compare(rows: dict[str, dict[str, Any]]) -> None:
    """Add to each step its speed against bf16, and the error of the predicted time of a step.

    A step is predicted as its products, and for the rest what bf16's step takes besides them.
    """
    for row, batch in ((row, f"batch {batch}") for row in rows.values() for batch in BATCHES):
        here, bf16 = row[batch], rows["bf16"][batch]
        here["speed against bf16"] = round(bf16["step, us"] / here["step, us"], 3)
        if here["predicted"]:
            rest = bf16["step, us"] - bf16["linear layers alone, us"]
            step = here["predicted"]["linear layers, us"] + rest
            here["predicted"]["step, us"] = round(step, 1)
            here["predicted"]["error of the step"] = round(step / here["step, us"] - 1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a small model")
    parser.add_argument("--plans", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    size = SMALL if options.small or not GPU else LARGE
    rows: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for name in dict.fromkeys(["bf16", *options.plans]):
            rows[name] = measure(size, PLANS[name], options.repeats)
            print(name, rows[name], flush=True)
            if GPU:
                gc.collect()
                torch.cuda.empty_cache()
    compare(rows)
    name = "llm" if size is LARGE else "llm_small"
    record(name, {"size": vars(size), "plans": rows}, options.out)
    worst = max(abs(math.log(row["memory over prediction"])) for row in rows.values())
    assert worst < 0.02, "memory is not within 2% of the plan's prediction"


if __name__ == "__main__":
    main()
