"""From node logits to a distribution over whole patches, and draws from it."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.errors import ConfigError
from bit_transformer.native.functions import compiled


@dataclass(frozen=True)
class SamplingConfig:
    """How patches are drawn. Filters apply in the order of the fields, over whole patches."""

    temperature: float = 1.0
    """Divides log-probabilities; 0 takes the most likely patch."""
    top_k: int | None = None
    """Keep the k most likely patches."""
    top_p: float | None = None
    """Keep the most likely patches that together reach this probability (Holtzman et al. 2019)."""
    min_p: float | None = None
    """Keep patches with at least this share of the top probability (Nguyen et al. 2024)."""
    valid_utf8: bool = False
    """Draw only what continues and ends as valid UTF-8."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}; leave it out for all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be in [0, 1], got {self.min_p}")

    @property
    def filters(self) -> bool:
        """Whether patches are drawn from another distribution than the model's own."""
        return self.temperature != 1 or any(
            bound is not None for bound in (self.top_k, self.top_p, self.min_p)
        )


def sample_patch(
    node_logits: Float[Tensor, "B nodes"],
    config: SamplingConfig,
    allowed: Bool[Tensor, "#B values"] | None = None,
    generator: torch.Generator | None = None,
) -> Integer[Tensor, "B 1"]:
    """One patch value per row; `allowed` must leave at least one value in each row.

    What is neither filtered nor constrained is drawn by walking down the tree, P decisions a patch;
    otherwise the distribution over whole patches is built. Both invert the same distribution
    function with the same random number.
    """
    if config.filters or allowed is not None or node_logits.device.type != "cpu":
        return draw_patch(patch_log_probabilities(node_logits), config, allowed, generator)
    uniform = torch.rand(len(node_logits), dtype=torch.float64, generator=generator)
    patches = np.empty((len(node_logits), 1), np.int64)
    _walk(node_logits.detach().numpy(), uniform.numpy(), patches)
    return torch.from_numpy(patches)


@compiled
def _walk(node_logits: np.ndarray, uniform: np.ndarray, patches: np.ndarray) -> None:
    """Invert each row's distribution function at its number in [0, 1), one bit after the other."""
    for row in range(len(node_logits)):
        node, rest = 1, uniform[row]
        while node < node_logits.shape[1]:
            p_zero = 1 / (1 + np.exp(np.float64(node_logits[row, node])))
            if rest < p_zero:
                node, rest = 2 * node, rest / p_zero
            else:
                node, rest = 2 * node + 1, (rest - p_zero) / (1 - p_zero)
        patches[row, 0] = node - node_logits.shape[1]


@functools.lru_cache(maxsize=32)
def _decision_indices(patch_size: int, device: torch.device) -> Integer[Tensor, "values P"]:
    """For each patch value, its decisions as indices into (all nodes' zeros, all nodes' ones)."""
    values = torch.arange(2**patch_size, device=device)[:, None]
    depths = torch.arange(patch_size, device=device)
    nodes = (values >> (patch_size - depths)) + (1 << depths)
    bits = (values >> (patch_size - 1 - depths)) & 1
    return nodes + bits * 2**patch_size


def patch_log_probabilities(node_logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B values"]:
    """Natural log-probability of each patch value: the sum of the decisions on its path."""
    patch_size = node_logits.shape[-1].bit_length() - 1
    both = functional.logsigmoid(torch.cat((-node_logits, node_logits), dim=-1))
    return both[:, _decision_indices(patch_size, node_logits.device)].sum(-1)


def draw_patch(
    log_probabilities: Float[Tensor, "B values"],
    config: SamplingConfig,
    allowed: Bool[Tensor, "#B values"] | None = None,
    generator: torch.Generator | None = None,
) -> Integer[Tensor, "B 1"]:
    """One patch value per row; `allowed` must leave at least one value in each row."""
    scores = log_probabilities
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    if config.temperature == 0:
        return scores.argmax(-1, keepdim=True)
    probabilities = (scores / config.temperature).softmax(-1)
    return _draw(_filter(probabilities, config), generator)


def _draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """Invert the distribution function: one random number a row, where `multinomial` needs one a
    value. Entries of probability zero are never drawn."""
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    uniform = torch.rand(
        len(probabilities), 1, dtype=torch.float64, device=probabilities.device, generator=generator
    )
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)


def _filter(probabilities: Tensor, config: SamplingConfig) -> Tensor:
    """Zero what the filters drop; the sum is then below one."""
    if config.top_k is not None and config.top_k < probabilities.shape[-1]:
        least = probabilities.topk(config.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < least, 0)
    if config.top_p is not None and config.top_p < 1:
        ranked, order = (probabilities / probabilities.sum(-1, keepdim=True)).sort(
            dim=-1, descending=True
        )
        beyond = ranked.cumsum(-1) - ranked >= config.top_p
        ranked = ranked.masked_fill(beyond, 0)
        probabilities = torch.zeros_like(ranked).scatter(-1, order, ranked)
    if config.min_p is not None:
        least = config.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0)
    return probabilities
