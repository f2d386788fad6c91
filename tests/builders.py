"""Small models for tests, with no weight at zero, and the variants that laws must hold for."""

from typing import Any

import torch

from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.attention import AttentionKernel, full_attention
from bit_transformer.model.stack import PlainStack

STACKS = {"plain": PlainStack}
ATTENTION_KERNELS: dict[str, AttentionKernel] = {"full": full_attention}


def tiny_model(
    *, stack: str = "plain", kernel: str = "full", seed: int = 0, **settings: Any
) -> BitTransformerLM:
    """A model of a few thousand weights in evaluation mode, all of them random."""
    torch.manual_seed(seed)
    sizes = {
        "d_model": 16,
        "nhead": 2,
        "num_layers": 2,
        "dim_feedforward": 32,
        "max_seq_len": 1024,
        "memory_slots": 256,
        "memory_width": 4,
    }
    model = BitTransformerLM(**(sizes | settings))
    model.network.stack = STACKS[stack](model.config)
    model.network.attention_kernel = ATTENTION_KERNELS[kernel]
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()
