"""Sample bits after a prompt, as a whole or as a stream of patches."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from bit_transformer.errors import ConfigError, require
from bit_transformer.inference.constraints import Constraint, decodable
from bit_transformer.inference.predictor import PatchPredictor, Source, begin
from bit_transformer.inference.sampling import sample_patch
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import Ended, Stop, StopSearch, stop_strings
from bit_transformer.model.bit_tree import patch_bits
from bit_transformer.model.config import ModelConfig


class DrawnPatch(NamedTuple):
    """The new bits of one patch, with the model's predictions."""

    bits: Integer[Tensor, "B r"]
    """The drawn bits, r <= P."""
    prefix: Integer[Tensor, "B k"]
    """Bits of the patch that were known before the draw, k + r <= P."""
    node_logits: Float[Tensor, "B nodes"]
    """Log-odds of a one at each inner node of the patch, before any filter."""


class PatchStream:
    """An iterator over patches as they are drawn. Iterate over it once."""

    def __init__(
        self,
        drawn: Iterator[DrawnPatch],
        prompt_likelihood: Float[Tensor, "B T"],
        search: StopSearch | None = None,
    ) -> None:
        self._patches = drawn if search is None else _cut_before_stop(drawn, search)
        self._search = search
        self.prompt_likelihood = prompt_likelihood
        """log2 of the probability of each bit of the prompt."""
        self.ended: Ended | None = None
        """Reason for the end of the stream. None until it has ended."""

    def __iter__(self) -> "PatchStream":
        return self

    def __next__(self) -> DrawnPatch:
        try:
            return next(self._patches)
        except StopIteration:
            stopped = self._search is not None and self._search.found
            self.ended = "stop" if stopped else "length"
            raise


class BitStream:
    """An iterator over the bits of a stream of patches. Iterate over it once."""

    def __init__(self, patches: PatchStream) -> None:
        self._patches = patches

    def __iter__(self) -> "BitStream":
        return self

    def __next__(self) -> Integer[Tensor, "B r"]:
        return next(self._patches).bits

    @property
    def ended(self) -> Ended | None:
        """Reason for the end of the stream. None until it has ended."""
        return self._patches.ended


def stream_bits(
    source: Source,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
    *,
    stop: Stop = (),
    first_row: int = 0,
) -> BitStream:
    """Stream the bits of `stream_patches`."""
    return BitStream(
        stream_patches(
            begin(source, len(prompt_bits)),
            prompt_bits,
            max_new_bits,
            sampling,
            generator,
            stop=stop,
            first_row=first_row,
        )
    )


def stream_patches(
    predictor: PatchPredictor,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
    *,
    stop: Stop = (),
    first_row: int = 0,
) -> PatchStream:
    """Stream `max_new_bits` new bits per sequence, patch by patch. The predictor must be new; it
    reads the prompt at the call.

    Prompt and output may have any length, see `Predictor`. The prompt may end inside a patch: then
    only patches that begin with its last bits are drawn. Parity bits are correct if the model has
    parity, and `valid_utf8` keeps the text decodable. Row i uses the random numbers of the
    generator's sample `first_row + i`, independent of the number of rows.

    A single sequence ends before the first `stop` string among its new bytes. The string and all
    after it are never yielded, so bits that may begin a stop string wait until this is decided.

    Arguments are checked at the call. Raises `ConfigError` when no sequence of that length is
    decodable or a batch has stop strings, and `DecodeError` when the prompt is not decodable.
    Iteration raises `InvalidPredictionError` when predictions are NaN.
    """
    require(max_new_bits >= 0, "max_new_bits", max_new_bits, "at least 0")
    strings = stop_strings(stop, valid_utf8=sampling.valid_utf8)
    if strings and len(prompt_bits) != 1:
        raise ConfigError(
            f"a batch of {len(prompt_bits)} sequences would stop at different lengths; pass one "
            "prompt at a time with stop strings"
        )
    constraint = _constraint(predictor.config, prompt_bits, max_new_bits, sampling)
    likelihood = predictor.read(prompt_bits.to(predictor.device))
    drawn = _stream(predictor, max_new_bits, sampling, generator, constraint, first_row)
    if not strings:
        return PatchStream(drawn, likelihood)
    byte_bits = predictor.config.bits_per_byte
    search = StopSearch(strings, byte_bits=byte_bits, prompt_bits=prompt_bits.shape[1])
    return PatchStream(drawn, likelihood, search)


def _cut_before_stop(drawn: Iterator[DrawnPatch], search: StopSearch) -> Iterator[DrawnPatch]:
    """Yield the patches before a stop string. The last one is cut where the string begins."""
    waiting: deque[DrawnPatch] = deque()
    released = 0
    for patch in drawn:
        waiting.append(patch)
        search.read(patch.bits[0].tolist())
        while waiting and released + waiting[0].bits.shape[1] <= search.safe_bits:
            released += waiting[0].bits.shape[1]
            yield waiting.popleft()
        if search.found:
            break
    rest = search.safe_bits - released
    if not search.found:
        yield from waiting
    elif rest:
        yield waiting[0]._replace(bits=waiting[0].bits[:, :rest])


def generate_bits(
    source: Source,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
    *,
    stop: Stop = (),
) -> Integer[Tensor, "B T_total"]:
    """Return the prompt and its new bits. Arguments and errors are those of `stream_bits`."""
    stream = stream_bits(source, prompt_bits, max_new_bits, sampling, generator, stop=stop)
    return torch.cat((prompt_bits.to(torch.uint8).cpu(), *(bits.cpu() for bits in stream)), dim=1)


def _constraint(
    config: ModelConfig, prompt_bits: Tensor, max_new_bits: int, sampling: SamplingConfig
) -> Constraint | None:
    parity = config.parity
    if not (parity or sampling.valid_utf8):
        return None
    automaton = decodable(utf8=sampling.valid_utf8, parity=parity)
    constraint = Constraint(automaton, prompt_bits.cpu().numpy())
    constraint.require_end_after(max_new_bits)
    return constraint


@torch.inference_mode()
def _stream(
    predictor: PatchPredictor,
    remaining: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None,
    constraint: Constraint | None,
    first_row: int,
) -> Iterator[DrawnPatch]:
    patch_size = predictor.config.patch_size
    while remaining:
        known = predictor.prefix.shape[1]
        taken = min(patch_size - known, remaining)
        remaining -= taken
        patch = sample_patch(
            predictor.node_logits,
            sampling,
            _allowed(predictor, constraint, known + taken, remaining),
            generator,
            first_row,
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
    predictor: PatchPredictor, constraint: Constraint | None, stop: int, remaining: int
) -> Bool[Tensor, "B values"] | None:
    """Return which patch values begin with the known bits and keep the sequence decodable."""
    patch_size, known = predictor.config.patch_size, predictor.prefix.shape[1]
    allowed = None
    if known:
        weights = 2 ** torch.arange(known - 1, -1, -1, device=predictor.device)
        prefix = (predictor.prefix.long() * weights).sum(-1, keepdim=True)
        values = torch.arange(2**patch_size, device=predictor.device)
        allowed = (values >> (patch_size - known)) == prefix
    if constraint is not None:
        decodes = constraint.allowed(patch_size, known, stop, remaining).to(predictor.device)
        allowed = decodes if allowed is None else allowed & decodes
    return allowed
