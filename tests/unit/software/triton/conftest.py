"""These run in Triton's interpreter (tests/conftest.py); with a GPU tests/gpu takes their place."""

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
