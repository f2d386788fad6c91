"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates pairs of channels (i, i + K/2) by an angle proportional to the position."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, head_width: int, positions: int, base: float) -> None:
        super().__init__()
        half = head_width // 2
        frequencies = base ** -(torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
        # The sign of the rotation is part of the table, so applying it takes a single roll.
        sine = torch.cat((-angles.sin(), angles.sin()), dim=-1)
        dtype = torch.get_default_dtype()
        self.register_buffer("cosine", angles.cos().repeat(1, 2).to(dtype), persistent=False)
        self.register_buffer("sine", sine.to(dtype), persistent=False)

    def forward(self, start: int, count: int) -> "Rotation":
        """The rotation for positions `start` to `start + count - 1`."""
        stop = start + count
        return Rotation(self.cosine[start:stop, None, None], self.sine[start:stop, None, None])

    def back(self, positions: int) -> "Rotation":
        """The rotation that moves keys back by `positions`."""
        cosine, sine = self.cosine[positions], self.sine[positions]
        return Rotation(cosine[None, None, None], -sine[None, None, None])


class Rotation:
    """Cosines and signed sines of some positions, with which queries and keys are rotated."""

    def __init__(self, cosine: Float[Tensor, "S 1 1 K"], sine: Float[Tensor, "S 1 1 K"]) -> None:
        self.cosine, self.sine = cosine, sine

    def apply(self, x: Float[Tensor, "*shape K"]) -> Float[Tensor, "*shape K"]:
        """Rotate `x`, whose shape must broadcast with the tables, such as (B, S, 2, H, K).

        Lengths stay the same, and inner products depend only on differences of positions.
        """
        return torch.addcmul(x * self.cosine, x.roll(x.shape[-1] // 2, -1), self.sine)
