"""nanoGPT's published CPU recipe for tinyshakespeare, implemented again for comparison.

4 layers, 4 heads, 128 wide, windows of 64 characters, batches of 12, 2,000 steps, AdamW from 1e-3
to 1e-4 with 100 warm-up steps, beta2 0.99, weight decay 0.1 on matrices, clipping at 1, no dropout,
no biases, tied embedding; 65 characters.
https://github.com/karpathy/nanoGPT (README, "quick start").
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW, BATCH, STEPS = 64, 12, 2000


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).transpose(1, 3)
        q, k, v = qkv.unbind(2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down_proj(functional.gelu(self.up_proj(self.norm_2(x))))


class NanoGPT(nn.Module):
    """The model of the recipe."""

    def __init__(self, vocabulary: int, layers: int = 4, heads: int = 4, width: int = 128) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(WINDOW, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("out.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.t()


@dataclass(frozen=True)
class Result:
    """Quality and cost of the recipe."""

    bits_per_byte: float
    seconds: float
    training_flops: float


def run(data: np.ndarray, cut: int, seed: int) -> Result:
    """Train on `data[:cut]` and score `data[cut:]` in cold windows.

    As in nanoGPT, the first byte of a window is not scored: it has no byte before it.
    """
    torch.manual_seed(seed)
    values, indices = np.unique(data, return_inverse=True)
    tokens = torch.from_numpy(indices.astype(np.int64))
    model = NanoGPT(len(values))
    matrices = [w for w in model.parameters() if w.ndim == 2]
    others = [w for w in model.parameters() if w.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    began = time.perf_counter()
    for step in range(STEPS):
        decayed = 0.5 * (1 + math.cos(math.pi * max(0, step - 100) / (STEPS - 100)))
        rate = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 9e-4 * decayed
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(cut - WINDOW - 1, (BATCH, 1))
        rows = tokens[starts + torch.arange(WINDOW + 1)]
        loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - began
    weights = sum(w.numel() for w in model.parameters()) - model.positions.weight.numel()
    flops = (6 * weights + 12 * 4 * 128 * WINDOW) * STEPS * BATCH * WINDOW
    return Result(_held_out(model, tokens[cut:]), seconds, flops)


@torch.no_grad()
def _held_out(model: NanoGPT, tokens: Tensor) -> float:
    count = (len(tokens) - 1) // WINDOW
    inputs = tokens[: count * WINDOW].view(count, WINDOW)
    targets = tokens[1 : count * WINDOW + 1].view(count, WINDOW)
    nats = sum(
        functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
        for x, y in zip(inputs.split(64), targets.split(64), strict=True)
    )
    return nats / targets.numel() / math.log(2)
