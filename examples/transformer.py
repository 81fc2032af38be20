"""The transformer layer of the examples."""

from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """A pre-norm layer with attention and an MLP twice as wide; x is (batch, tokens, width)."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(self.norm1(x)))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        """The heads' results, side by side."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        heads = (part.transpose(1, 2) for part in (q, k, v))
        attended = functional.scaled_dot_product_attention(*heads, is_causal=self.causal)
        return attended.transpose(1, 2).flatten(2)
