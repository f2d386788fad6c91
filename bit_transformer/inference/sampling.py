"""The distribution over whole patches that node logits describe, and draws from it."""

import functools

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.errors import InvalidPredictionError
from bit_transformer.inference.sampling_config import SamplingConfig, require_seed
from bit_transformer.native.functions import compiled

_GOLDEN, _MIX_1, _MIX_2 = (
    value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
"""Constants of splitmix64 (Steele, Lea & Flood 2014), as signed integers."""


def seeded(seed: int) -> torch.Generator:
    """Return a seeded generator on the CPU. Raises `ConfigError` for a seed outside its limits."""
    return torch.Generator().manual_seed(require_seed(seed))


def uniform_numbers(
    rows: int, generator: torch.Generator | None, first_row: int, device: torch.device
) -> Float[Tensor, " B"]:
    """Return one float64 number in [0, 1) per row, using a single number from the generator.

    Row 0 gets that number, and row i gets a hash of it and i (splitmix64). A row's number therefore
    does not depend on the number of rows. `first_row` is the index of the first row.
    """
    where = device if generator is None else generator.device
    own = torch.rand(1, dtype=torch.float64, device=where, generator=generator)
    if rows == 1 and first_row == 0:
        return own.to(device)
    index = torch.arange(first_row, first_row + rows, device=where)
    mixed = (own * 2**53).long() + index * _GOLDEN
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    mixed = mixed ^ _shifted(mixed, 31)
    numbers = _shifted(mixed, 11).double() * 2**-53
    return torch.where(index == 0, own, numbers).to(device)


def _shifted(values: Tensor, places: int) -> Tensor:
    """Shift integers to the right as if they were unsigned."""
    return (values >> places) & ((1 << (64 - places)) - 1)


def sample_patch(
    node_logits: Float[Tensor, "B nodes"],
    config: SamplingConfig,
    allowed: Bool[Tensor, "#B values"] | None = None,
    generator: torch.Generator | None = None,
    first_row: int = 0,
) -> Integer[Tensor, "B 1"]:
    """Draw one patch value per row. `allowed` must leave at least one value in each row.

    Without filters and constraints the draw walks down the tree, which takes P decisions. Otherwise
    the distribution over all 2**P values is built. Both invert the same cumulative distribution at
    the same random number, see `uniform_numbers`.

    Raises `InvalidPredictionError` when logits are NaN.
    """
    if config.filters or allowed is not None or node_logits.device.type != "cpu":
        scores = patch_log_probabilities(node_logits)
        return draw_patch(scores, config, allowed, generator, first_row)
    uniform = uniform_numbers(len(node_logits), generator, first_row, node_logits.device)
    patches = np.empty((len(node_logits), 1), np.int64)
    if not _walk(node_logits.detach().float().numpy(), uniform.numpy(), patches):
        raise _invalid_predictions()
    return torch.from_numpy(patches)


def _invalid_predictions() -> InvalidPredictionError:
    return InvalidPredictionError(
        "the predictions of the next patch are NaN or exclude every allowed value; the model's "
        "weights are damaged: load a good checkpoint"
    )


@compiled
def _walk(node_logits: np.ndarray, uniform: np.ndarray, patches: np.ndarray) -> bool:
    """Invert each row's cumulative distribution at its number in [0, 1), bit by bit. Return False
    when a probability on the path is NaN."""
    for row in range(len(node_logits)):
        node, rest = 1, uniform[row]
        while node < node_logits.shape[1]:
            p_zero = 1 / (1 + np.exp(np.float64(node_logits[row, node])))
            if np.isnan(p_zero):
                return False
            if rest < p_zero:
                node, rest = 2 * node, rest / p_zero
            else:
                node, rest = 2 * node + 1, (rest - p_zero) / (1 - p_zero)
        patches[row, 0] = node - node_logits.shape[1]
    return True


@functools.lru_cache(maxsize=32)
def _decision_indices(patch_size: int, device: torch.device) -> Integer[Tensor, "values P"]:
    """Return each patch value's decisions as indices into (all nodes' zeros, all nodes' ones)."""
    values = torch.arange(2**patch_size, device=device)[:, None]
    depths = torch.arange(patch_size, device=device)
    nodes = (values >> (patch_size - depths)) + (1 << depths)
    bits = (values >> (patch_size - 1 - depths)) & 1
    return nodes + bits * 2**patch_size


def patch_log_probabilities(node_logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B values"]:
    """Return the natural log-probability of each patch value: the sum over its path's decisions."""
    patch_size = node_logits.shape[-1].bit_length() - 1
    logits = node_logits.to(torch.promote_types(node_logits.dtype, torch.float32))
    both = functional.logsigmoid(torch.cat((-logits, logits), dim=-1))
    return both[:, _decision_indices(patch_size, node_logits.device)].sum(-1)


def draw_patch(
    log_probabilities: Float[Tensor, "B values"],
    config: SamplingConfig,
    allowed: Bool[Tensor, "#B values"] | None = None,
    generator: torch.Generator | None = None,
    first_row: int = 0,
) -> Integer[Tensor, "B 1"]:
    """Draw one patch value per row. `allowed` must leave at least one value in each row.

    Raises `InvalidPredictionError` when log-probabilities are NaN or no allowed value has a
    probability above 0.
    """
    scores = log_probabilities
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    top = scores.amax(-1, keepdim=True)
    if not bool(top.isfinite().all()):
        raise _invalid_predictions()
    if config.temperature == 0:
        return scores.argmax(-1, keepdim=True)
    # The best score is shifted to 0 and divided in float64, so tiny temperatures give no NaN.
    probabilities = ((scores - top).double() / config.temperature).softmax(-1)
    uniform = uniform_numbers(len(scores), generator, first_row, scores.device)
    return _draw(_filter(probabilities, config), uniform)


def _draw(probabilities: Float[Tensor, "B values"], uniform: Float[Tensor, " B"]) -> Tensor:
    """Invert the cumulative distribution. This takes one random number per row, where `multinomial`
    takes one per value. Values of probability zero are never drawn."""
    cumulative = probabilities.cumsum(-1)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)


def _filter(probabilities: Tensor, config: SamplingConfig) -> Tensor:
    """Set the probabilities of dropped values to zero, without normalising the rest."""
    if config.top_k is not None and config.top_k < probabilities.shape[-1]:
        lowest = probabilities.topk(config.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < lowest, 0)
    if config.top_p is not None and config.top_p < 1:
        ranked, order = (probabilities / probabilities.sum(-1, keepdim=True)).sort(
            dim=-1, descending=True
        )
        beyond = ranked.cumsum(-1) - ranked >= config.top_p
        ranked = ranked.masked_fill(beyond, 0)
        probabilities = torch.zeros_like(ranked).scatter(-1, order, ranked)
    if config.min_p is not None:
        lowest = config.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < lowest, 0)
    return probabilities
