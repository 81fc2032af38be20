"""A Hugging Face model whose weights are loaded as MXInt8: half of bf16's memory."""

from tempfile import TemporaryDirectory

import torch
import typer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from quire import QuireConfig


def save_random_model(path: str) -> None:
    """A small LLaMA with random weights, in the place of a downloaded one."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=512, num_attention_heads=4, dtype="bfloat16", **sizes)
    LlamaForCausalLM(config).bfloat16().save_pretrained(path)


def main(path: str = "", plan: str = "mxint8") -> None:
    """Load the model at `path` (none: a random one), generate, save it in codes, and load those."""
    with TemporaryDirectory() as folder:
        if not path:
            save_random_model(path := f"{folder}/bf16")

        model = AutoModelForCausalLM.from_pretrained(path, quantization_config=QuireConfig(plan))
        prompt = torch.arange(8).unsqueeze(0)
        text = model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
        model.save_pretrained(f"{folder}/{plan}")
        again = AutoModelForCausalLM.from_pretrained(f"{folder}/{plan}")

        print(model.model.layers[0].mlp)
        print(f"{model.get_memory_footprint():,} bytes; tokens {text[0, 8:].tolist()}")
        with torch.no_grad():
            print("the same logits:", torch.equal(model(prompt).logits, again(prompt).logits))


if __name__ == "__main__":
    typer.run(main)
