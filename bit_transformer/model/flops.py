"""The one ledger of floating-point operations; every figure of the project is counted by it.

Multiplications and additions of matrix products count, two per weight and position. Attention
counts all S**2 pairs, as in the PaLM paper (Chowdhery et al. 2022, appendix B), although a causal
kernel needs half of them. Muon's orthogonalisation counts as the plain iteration of its authors,
whatever way it is computed. Look-ups, norms and element-wise optimizers do not count.
"""

from bit_transformer.model.config import ModelConfig


def matrix_parameters(config: ModelConfig) -> int:
    """Weights that take part in a matrix product at every position."""
    block = 4 * config.d_model**2 + 2 * config.d_model * config.dim_feedforward
    head = 2 ** (config.patch_size - config.parity) * config.d_model
    memory = len(config.memory_orders) * config.memory_width * config.d_model
    return config.num_layers * block + head + memory


def muon_flops_per_step(config: ModelConfig, iterations: int = 5) -> int:
    """FLOPs of one Newton-Schulz orthogonalisation of every matrix of the trunk.

    An iteration multiplies an (r, c) matrix, r <= c, by its transpose, the product by itself, and
    the result by the matrix: 2 r**2 c + 2 r**3 + 2 r**2 c.
    """
    width, hidden = config.d_model, config.dim_feedforward
    shapes = [(width, 3 * width), (width, width), *[sorted((width, hidden))] * 2]
    per_iteration = sum(4 * rows**2 * columns + 2 * rows**3 for rows, columns in shapes)
    return config.num_layers * iterations * per_iteration


def forward_flops_per_byte(config: ModelConfig, context_bytes: int | None = None) -> float:
    """FLOPs of one forward pass per byte of data, in windows of `context_bytes` (default: full)."""
    patches_per_byte = config.bits_per_byte / config.patch_size
    context = config.context_patches
    if context_bytes is not None:
        context = round(context_bytes * patches_per_byte)
    attention = 4 * config.num_layers * config.d_model * context
    return patches_per_byte * (2 * matrix_parameters(config) + attention)


def training_flops_per_byte(config: ModelConfig, context_bytes: int | None = None) -> float:
    """FLOPs of forward and backward per byte: three times the forward pass."""
    return 3 * forward_flops_per_byte(config, context_bytes)
