"""Without a GPU, Triton's kernels run in its interpreter; Triton chooses when it is imported."""

import os
from importlib.util import find_spec
from typing import Any

import torch

if find_spec("triton") and not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

    from triton.runtime import interpreter

    _patch: Any = interpreter._patch_lang_tensor

    def _patch_lang_tensor(tensor: Any, scope: Any) -> None:
        # Triton 3.6 turns an array of one element into an index, which NumPy 2.4 refuses.
        _patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = _patch_lang_tensor
