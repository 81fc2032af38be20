"""The plug-in for transformers, on models saved from random configurations."""

import copy
import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

import quire
from quire import Plan, QuireConfig
from quire.errors import PlanError
from quire.software import huggingface
from quire.software.apply import apply
from quire.software.mx.linear import MXLinear

COMMON = {"vocab_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2}
TOKEN_IDS = torch.arange(20).view(2, 10)
MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**COMMON, **TOKENS, hidden_size=32, intermediate_size=48)
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            **COMMON,
            **TOKENS,
            hidden_size=32,
            ffn_dim=48,
            word_embed_proj_dim=32,
            max_position_embeddings=64,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(**TOKENS, vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    ),
    "bert": lambda: BertModel(BertConfig(**COMMON, hidden_size=32, intermediate_size=48)),
}
PLANS = {
    "one format": "mxint8",
    "patterns": {"*.weight": "mxint6", "*.0.*": "mxfp8_e4m3", "*.1.*.input": "mxint8"},
    "other families": {"*.0.*.weight": "fixed(8,6)", "*.1.*.weight": "mxint4"},
}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR)


def load(path, **options):
    auto = AutoModel if "bert" in str(path) else AutoModelForCausalLM
    return auto.from_pretrained(path, **options)


def saved(name, folder, dtype=torch.float32):
    """A random model, and where it is saved."""
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype).eval()
    for parameter in model.parameters():  # biases and norms as trained ones are, not 0 and 1
        parameter.data += 0.02 * torch.randn_like(parameter)
    path = folder / name / "full"
    model.save_pretrained(path)
    return model, path


@torch.no_grad()
def output(model):
    return model(TOKEN_IDS)[0]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in MODELS), ("llama", torch.bfloat16)],
    ids=str,
)
def test_loading_gives_the_model_of_apply_and_saving_keeps_it(name, plan, dtype, tmp_path):
    _, path = saved(name, tmp_path, dtype)
    model = load(path, dtype=dtype)
    loaded = load(path, quantization_config=QuireConfig(plan), dtype=dtype)
    report = apply(model, plan, quiet=True)
    assert set(report.swapped) == {n for n, m in loaded.named_modules() if isinstance(m, MXLinear)}
    assert torch.equal(output(loaded), output(model))
    assert type(loaded) is type(model)

    again_path = tmp_path / name / "codes"
    loaded.save_pretrained(again_path)
    again = load(again_path)
    assert torch.equal(output(again), output(loaded))
    files = load_file(again_path / "model.safetensors")
    for layer in report.swapped:
        assert files[f"{layer}.codes"].dtype == files[f"{layer}.scales"].dtype == torch.uint8
        assert f"{layer}.weight" not in files


def test_a_config_that_names_another_format_than_the_codes(tmp_path):
    _, path = saved("gpt2", tmp_path)
    load(path, quantization_config=QuireConfig("mxint8")).save_pretrained(tmp_path / "codes")
    config = tmp_path / "codes" / "config.json"
    config.write_text(config.read_text().replace('"mxint8"', '"mxfp8_e4m3"'))
    with pytest.raises(PlanError, match="the state dict holds codes of 'mxint8', and the layer"):
        load(tmp_path / "codes")


def test_weights_are_swapped_while_they_are_read(tmp_path, monkeypatch):
    _, path = saved("gpt2", tmp_path)

    def fail(*_):
        raise AssertionError("a weight was swapped after loading")

    monkeypatch.setattr(huggingface, "swapped", fail)
    loaded = load(path, quantization_config=QuireConfig("mxint4"))
    assert sum(isinstance(module, MXLinear) for module in loaded.modules()) == 8


@pytest.mark.parametrize("kind", ["plan", "path", "string of a path"])
def test_plans_of_a_graph(kind, tmp_path):
    model, path = saved("llama", tmp_path)
    model.config.use_cache = False
    graph = quire.capture(copy.deepcopy(model), {"input_ids": TOKEN_IDS})
    plan = Plan.uniform(graph, "mxint8")
    weights = Plan({k: e for k, e in plan.items() if k.endswith("weight")})
    weights["lm_head.weight"] = "mxint6"
    file = tmp_path / "plan.json"
    weights.save(file)
    given = {"plan": weights, "path": file, "string of a path": str(file)}[kind]
    loaded = load(path, quantization_config=QuireConfig(plan=given))
    with torch.no_grad():
        (expected,) = quire.quantize(graph, weights)(input_ids=TOKEN_IDS).values()
    torch.testing.assert_close(output(loaded), expected, rtol=1e-5, atol=1e-5)
    assert loaded.lm_head.format == "mxint6"


def test_a_tied_embedding_is_rounded_once_and_stays_tied(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="quire")
    model, path = saved("opt", tmp_path)
    config = QuireConfig({"*fc*.weight": "mxint8", "lm_head.weight": "mxint4"})
    loaded = load(path, quantization_config=config)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    rounded = quire.formats.parse("mxint4").quantize(model.lm_head.weight.detach(), -1)
    assert torch.equal(loaded.lm_head.weight, rounded)
    assert "rounded in place: lm_head.weight (mxint4: another module shares the te" in caplog.text
    loaded.save_pretrained(tmp_path / "opt" / "codes")
    again = load(tmp_path / "opt" / "codes")
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert torch.equal(again.lm_head.weight, rounded)
    assert isinstance(again.model.decoder.layers[0].fc1, MXLinear)


def test_a_weight_that_is_missing_in_the_files(tmp_path):
    _, path = saved("llama", tmp_path)
    tensors = load_file(path / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    loaded = load(path, quantization_config=QuireConfig("mxint8"))
    assert isinstance(loaded.lm_head, MXLinear)
    assert loaded.lm_head.weight.abs().sum() > 0


def test_dequantize_gives_linear_layers_back(tmp_path):
    _, path = saved("gpt2", tmp_path)
    loaded = load(path, quantization_config=QuireConfig("mxint8"))
    expected = output(loaded)
    full = loaded.dequantize()
    assert not any(isinstance(module, MXLinear) for module in full.modules())
    torch.testing.assert_close(output(full), expected)
    assert not hasattr(full.config, "quantization_config")


def test_it_generates(tmp_path):
    _, path = saved("llama", tmp_path)
    loaded = load(path, quantization_config=QuireConfig("mxint8"))
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(TOKEN_IDS)
    tokens = loaded.generate(TOKEN_IDS, attention_mask=mask, **options)
    logits = loaded(tokens[:, :-1]).logits
    assert torch.equal(tokens[:, 10:], logits[:, 9:].argmax(-1))


def test_the_config_is_plain_data(tmp_path):
    given = {"b.weight": "mxint8", "*.weight": "mxint4"}  # the last that matches counts
    config = QuireConfig(given)
    pairs = {"version": 1, "entries": [["b.weight", "mxint8"], ["*.weight", "mxint4"]]}
    assert config.to_dict() == {"quant_method": "quire", "plan": pairs}
    again = QuireConfig.from_dict(json.loads(config.to_json_string())).to_plan()
    assert list(again.items()) == list(Plan(given).items())
    assert QuireConfig().to_plan() == "mxint8"
    assert QuireConfig(quire.formats.parse("mxfp4")).plan == "mxfp4"
    _, path = saved("gpt2", tmp_path)
    load(path, quantization_config=QuireConfig("mxint4")).save_pretrained(tmp_path / "gpt2/codes")
    saved_config = json.loads((tmp_path / "gpt2/codes/config.json").read_text())
    assert saved_config["quantization_config"] == {"plan": "mxint4", "quant_method": "quire"}


def test_memory_is_planned_with_the_bytes_of_codes(tmp_path):
    _, path = saved("llama", tmp_path)
    quantizer = huggingface.QuireQuantizer(QuireConfig("mxint4"), pre_quantized=False)
    model = LlamaForCausalLM.from_pretrained(path)
    quantizer.preprocess_model(model)
    weight = model.lm_head.weight
    assert quantizer.param_element_size(model, "lm_head.weight", weight) == 17 / 32
    assert quantizer.param_element_size(model, "model.norm.weight", model.model.norm.weight) == 4
    assert isinstance(model.lm_head, nn.Linear)


def test_refusals(tmp_path):
    _, path = saved("llama", tmp_path)
    message = r"no site 'lm_haed.weight' in this LlamaForCausalLM: did you mean 'lm_head.weight'"
    with pytest.raises(PlanError, match=message):
        load(path, quantization_config=QuireConfig({"lm_haed.weight": "mxint8"}))
    with pytest.raises(PlanError, match=r"plan='mxint' is neither a file nor a format"):
        load(path, quantization_config=QuireConfig("mxint"))
    for plan in (None, 3):
        with pytest.raises(PlanError, match=f"plan={plan} is no plan: give a quire.Plan"):
            QuireConfig(plan)
