"""The README's lines run as printed, in order, in one interpreter."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_of_the_readme_run(tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
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
