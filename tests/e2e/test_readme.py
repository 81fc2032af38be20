"""The README's lines run as printed, in order, in one interpreter."""

import re
import subprocess
import sys
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_of_the_readme_run(tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=64, num_attention_heads=4, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "plan.json").stat().st_size > 0
    assert (tmp_path / "build" / "manifest.json").stat().st_size > 0
    assert "none differs" in done.stdout
    full, codes = (tmp_path / name / "model.safetensors" for name in ("llama", "llama-mxint8"))
    assert codes.stat().st_size < full.stat().st_size / 2
