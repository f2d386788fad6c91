"""Small models for tests, and the settings of their variants."""

from typing import Any

import torch

from bit_transformer.lm import BitTransformerLM

STACKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reversible": {"reversible": True},
    "halting": {"use_act": True, "act_threshold": 0.5},
}
ATTENTION_PATCHES: dict[str, dict[str, int]] = {
    "full": {},
    "chunks": {"chunk_size": 2, "overlap": 0},
    "overlapping chunks": {"chunk_size": 2, "overlap": 1},
}
"""Settings of chunked attention, in patches."""


def tiny_model(
    *, stack: str = "plain", attention: str = "full", seed: int = 0, **settings: Any
) -> BitTransformerLM:
    """Return a model of a few thousand weights in evaluation mode.

    All weights are random, because the zeros of a fresh model would hide errors.
    """
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
    chunks = {
        name: patches * settings.get("patch_size", 8)
        for name, patches in ATTENTION_PATCHES[attention].items()
    }
    model = BitTransformerLM(**(sizes | STACKS[stack] | chunks | settings))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


# A model that a server trains within a second, and its training data.
SERVED_MODEL = {
    "d_model": 16,
    "nhead": 2,
    "num_layers": 2,
    "dim_feedforward": 32,
    "max_seq_len": 512,
    "memory_slots": 256,
    "memory_width": 4,
}
SERVED_TEXT = b"to be or not to be, that is the question\n" * 300
