"""Live modules from end to end: a trained model in codes, and the Hugging Face example."""

import importlib
import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import pytest
import torch

import quire
from quire import Plan
from quire.software.mx.linear import MXLinear

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def trained() -> tuple[ModuleType, torch.nn.Module]:
    """The module of the character model, and the model after 60 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        example, training = (
            importlib.import_module("characters"),
            importlib.import_module("training"),
        )
    torch.manual_seed(0)
    data, _, _, characters = example.load_texts()
    model = example.CharacterModel(characters)

    def loss() -> torch.Tensor:
        starts = torch.randint(len(data) - example.CONTEXT, (32,))
        return example.nats(model, example.windows(data, starts))

    training.fit(model, loss, steps=60)
    return example, model.eval()


@pytest.mark.parametrize("format", ["mxint8", "mxint6", "mxint4", "mxfp8_e4m3"])
@pytest.mark.parametrize("inputs", [None, "mxint8"])
@torch.no_grad()
def test_kernels_and_emulation_give_the_same_bits_per_character(trained, format, inputs):
    example, model = trained
    data, validation, _, _ = example.load_texts()
    graph = quire.capture(deepcopy(model), (data[: 2 * example.CONTEXT].view(2, -1),))
    operands = [s for s in quire.sites(graph).values() if s.is_operand and s.op == "linear"]
    entries = {"weight": format, "input": inputs}
    plan = Plan({s.name: entries[s.operand] for s in operands if entries[s.operand]})
    emulated = example.measure(quire.quantize(graph, plan), validation)["bpc"]
    live = deepcopy(model)
    assert not quire.apply(live, plan, quiet=True).left
    assert sum(isinstance(module, MXLinear) for module in live.modules()) == len(operands) // 2
    kernels = example.measure(live, validation)["bpc"]
    full = example.measure(model, validation)["bpc"]
    assert full < 4.8  # log2 of about 100 characters = 6.6 before training
    assert kernels != full
    # Sums in another order: 2^-24 a term, and what an activation's rounding boundary makes of it.
    assert kernels == pytest.approx(emulated, abs=1e-5 if inputs is None else 1e-3)


def test_the_hugging_face_example():
    command = [sys.executable, "-W", "error", str(EXAMPLES / "huggingface_mxint8.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "MXLinear(in_features=256, out_features=512, format=mxint8, bias=False)" in done.stdout
    assert "the same logits: True" in done.stdout


def test_the_benchmark_of_a_decoder_in_small(tmp_path: Path):
    script = ROOT / "benchmarks" / "llm.py"
    command = [sys.executable, "-W", "error", str(script), "--small", "--repeats", "3"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("llm_small-*.json")
    plans = json.loads(path.read_text())["figures"]["plans"]
    assert set(plans) == {"bf16", "mxint8", "mxint4", "mixed"}
    for name, row in plans.items():
        assert (
            row["memory, bytes"] == row["predicted, bytes"] == sum(row["account, bytes"].values())
        )
        assert {f"batch {n}" for n in (1, 8, 32)} < row.keys()
        if name != "bf16":
            assert row["logits against bf16 values"]["relative difference, RMS"] < 0.01
            assert row["account, bytes"]["linear layers in bf16"] == 0
    sizes = [plans[name]["memory, bytes"] for name in ("mxint4", "mixed", "mxint8", "bf16")]
    assert sizes == sorted(sizes)


@torch.no_grad()
def test_the_decoder_gives_the_logits_of_llama(monkeypatch: pytest.MonkeyPatch):
    """A prompt at once, and token by token, against transformers with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    llama = importlib.import_module("llama")
    size = llama.SMALL
    ours = llama.random_decoder(size, torch.device("cpu"), torch.float32)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        rms_norm_eps=llama.EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": llama.ROPE_BASE},
    )
    theirs = LlamaForCausalLM(config).eval()
    theirs.load_state_dict(as_transformers(ours, size))
    tokens = torch.arange(2 * size.context).view(2, -1)
    expected = theirs(tokens).logits[:, -1]
    torch.testing.assert_close(ours.prefill(tokens, ours.empty_cache(2)), expected)
    cache = ours.empty_cache(2)
    # The ring attends to all its slots: the first tokens fill it, the last one sees them all.
    ours.prefill(tokens[:, :-1], cache)
    last = torch.tensor([size.context - 1])
    torch.testing.assert_close(ours.step(tokens[:, -1], last, cache), expected)


def as_transformers(model, size) -> dict[str, torch.Tensor]:
    """The weights under the names that transformers gives them."""
    heads = [size.heads * size.head, size.kv_heads * size.head, size.kv_heads * size.head]
    state = {
        "model.embed_tokens.weight": model.embed.weight,
        "model.norm.weight": model.norm,
        "lm_head.weight": model.head.weight,
    }
    for i, layer in enumerate(model.layers):
        q, k, v = layer.qkv_proj.weight.split(heads)
        gate, up = layer.gate_up_proj.weight.chunk(2)
        parts = {
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": layer.o_proj.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": layer.down_proj.weight,
            "input_layernorm": layer.attention_norm,
            "post_attention_layernorm": layer.mlp_norm,
        }
        state |= {f"model.layers.{i}.{name}.weight": value for name, value in parts.items()}
    return state
