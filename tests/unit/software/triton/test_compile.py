"""Every Triton kernel compiles for the devices that it is meant for, on a machine without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compile_kernels.py")
KERNELS = {
    "_quantize",
    "_quantize_both",
    "_dequantize",
    "_linear",
    "_sum_parts",
    "_attend",
    "_cast",
}


@pytest.mark.nightly
@pytest.mark.parametrize("capability", [80, 89, 90])
def test_every_kernel_compiles(capability, tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, str(SCRIPT), str(capability)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == KERNELS
