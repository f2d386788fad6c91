"""Counts floating-point operations (FLOPs). Every FLOP figure of the project comes from here.

Matrix products count two FLOPs per weight and position: a multiplication and an addition. Attention
counts all S**2 pairs, as in the PaLM paper (Chowdhery et al. 2022, appendix B), although a causal
kernel needs only half of them. Muon's orthogonalisation counts as the iteration of its authors,
even where a faster form computes it. Look-ups, norms and element-wise optimizers do not count.
"""

from bit_transformer.model.config import ModelConfig


def matrix_parameters(config: ModelConfig) -> int:
    """Number of weights that are multiplied at every position."""
    block = 4 * config.d_model**2 + 2 * config.d_model * config.dim_feedforward
    head = 2 ** (config.patch_size - config.parity) * config.d_model * (1 + config.leaf_logits)
    memory = len(config.memory_orders) * config.memory_width * config.d_model
    return config.num_layers * block + head + memory


def muon_flops_per_step(config: ModelConfig, iterations: int = 5) -> int:
    """FLOPs of one Newton-Schulz orthogonalisation of every matrix of the trunk.

    For an (r, c) matrix X with r <= c, one iteration computes A = X X^T, A A, and a polynomial of A
    times X: 2 r**2 c + 2 r**3 + 2 r**2 c.
    """
    width, hidden = config.d_model, config.dim_feedforward
    shapes = [(width, 3 * width), (width, width), *[sorted((width, hidden))] * 2]
    per_iteration = sum(4 * rows**2 * columns + 2 * rows**3 for rows, columns in shapes)
    return config.num_layers * iterations * per_iteration


def forward_flops_per_byte(config: ModelConfig, context_bytes: int | None = None) -> float:
    """FLOPs of a forward pass per byte, in windows of `context_bytes` (default: full context)."""
    patches_per_byte = config.bits_per_byte / config.patch_size
    context = config.context_patches
    if context_bytes is not None:
        context = round(context_bytes * patches_per_byte)
    attention = 4 * config.num_layers * config.d_model * context
    return patches_per_byte * (2 * matrix_parameters(config) + attention)


def training_flops_per_byte(config: ModelConfig, context_bytes: int | None = None) -> float:
    """FLOPs of training per byte: a backward pass costs twice its forward pass."""
    return 3 * forward_flops_per_byte(config, context_bytes)
