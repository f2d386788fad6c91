"""Prompt in, sampled bits out, whole or as a stream of patches."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from bit_transformer.errors import ConfigError
from bit_transformer.inference.constraints import Constraint, decodable
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import SamplingConfig, sample_patch
from bit_transformer.model.patches import patch_bits
from bit_transformer.model.transformer import BitTransformer


class DrawnPatch(NamedTuple):
    """New bits and what the model had expected in their place."""

    bits: Integer[Tensor, "B r"]
    """What was drawn, r <= P."""
    prefix: Integer[Tensor, "B k"]
    """Bits of the patch that were known before, k + r <= P."""
    node_logits: Float[Tensor, "B nodes"]
    """Logit of a one at each inner node of the patch, before any filter."""


def stream_bits(
    network: BitTransformer,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
) -> Iterator[Integer[Tensor, "B r"]]:
    """The bits of `stream_patches`."""
    predictor = Predictor(network, len(prompt_bits))
    drawn = stream_patches(predictor, prompt_bits, max_new_bits, sampling, generator)
    return (patch.bits for patch in drawn)


def stream_patches(
    predictor: Predictor,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
) -> Iterator[DrawnPatch]:
    """Yield new bits patch by patch, `max_new_bits` per sequence in all; the predictor, which has
    read nothing so far, reads the prompt at once.

    Prompt and output may be of any length, see `Predictor`. The prompt may end inside a patch: only
    patches that begin with its last bits are drawn. Parity bits are right when the model has
    parity; `valid_utf8` keeps the text whole. Checks its arguments at the call, before the first
    patch is asked for.

    Raises `ConfigError` when no sequence of that length is decodable, `DecodeError` when the prompt
    is not.
    """
    if max_new_bits < 0:
        raise ConfigError(f"max_new_bits must be at least 0, got {max_new_bits}")
    constraint = _constraint(predictor.network, prompt_bits, max_new_bits, sampling)
    predictor.read(prompt_bits.to(predictor.device))
    return _stream(predictor, max_new_bits, sampling, generator, constraint)


def generate_bits(
    network: BitTransformer,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
) -> Integer[Tensor, "B T_total"]:
    """The prompt with `max_new_bits` new bits after it; arguments and errors of `stream_bits`."""
    stream = stream_bits(network, prompt_bits, max_new_bits, sampling, generator)
    return torch.cat((prompt_bits.to(torch.uint8), *(bits.cpu() for bits in stream)), dim=1)


def _constraint(
    network: BitTransformer, prompt_bits: Tensor, max_new_bits: int, sampling: SamplingConfig
) -> Constraint | None:
    parity = network.config.parity
    if not (parity or sampling.valid_utf8):
        return None
    automaton = decodable(utf8=sampling.valid_utf8, parity=parity)
    constraint = Constraint(automaton, prompt_bits.cpu().numpy())
    constraint.require_end_after(max_new_bits)
    return constraint


@torch.inference_mode()
def _stream(
    predictor: Predictor,
    remaining: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None,
    constraint: Constraint | None,
) -> Iterator[DrawnPatch]:
    patch_size = predictor.patch_size
    while remaining:
        known = predictor.prefix.shape[1]
        taken = min(patch_size - known, remaining)
        remaining -= taken
        patch = sample_patch(
            predictor.node_logits,
            sampling,
            _allowed(predictor, constraint, known + taken, remaining),
            generator,
        )
        bits = patch_bits(patch, patch_size)[:, known : known + taken]
        if constraint is not None:
            constraint.advance(bits.cpu().numpy())
        yield DrawnPatch(bits, predictor.prefix, predictor.node_logits)
        if remaining and known == 0:
            predictor.push(patch)
        elif remaining:
            predictor.read(bits)


def _allowed(
    predictor: Predictor, constraint: Constraint | None, stop: int, remaining: int
) -> Bool[Tensor, "B values"] | None:
    """Patch values that begin with the bits already known and keep the sequence decodable."""
    patch_size, known = predictor.patch_size, predictor.prefix.shape[1]
    allowed = None
    if known:
        weights = 2 ** torch.arange(known - 1, -1, -1, device=predictor.device)
        begins = (predictor.prefix.long() * weights).sum(-1, keepdim=True)
        values = torch.arange(2**patch_size, device=predictor.device)
        allowed = (values >> (patch_size - known)) == begins
    if constraint is not None:
        decodes = constraint.allowed(patch_size, known, stop, remaining).to(predictor.device)
        allowed = decodes if allowed is None else allowed & decodes
    return allowed
