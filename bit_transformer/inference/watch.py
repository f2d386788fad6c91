"""Generation as a glass box: every new bit with its probability, and the metrics of the text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.errors import ConfigError
from bit_transformer.inference.generate import DrawnPatch, PatchStream, stream_patches
from bit_transformer.inference.predictor import Source, begin
from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import Ended, Stop
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.native.functions import compiled
from bit_transformer.telemetry.stream import WINDOW_BITS, StreamMetrics, StreamTelemetry
from bit_transformer.telemetry.universal_code import code_lengths

_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class WatchedStretch:
    """One or more consecutive patches of a single sequence, with probabilities and metrics."""

    bits: UInt8[np.ndarray, " n"]
    """The new bits."""
    p_ones: Float[np.ndarray, " n"]
    """The model's probability of a one for each bit, before any filter."""
    readings: StreamMetrics
    """The metrics after each completed patch."""
    _drawn: tuple[DrawnPatch, ...] = field(repr=False)

    @property
    def surprisal(self) -> Float[np.ndarray, " n"]:
        """Surprisal of each bit under the model, in bits."""
        return code_lengths(self.p_ones, self.bits)

    def alternatives(self, count: int = 3) -> list[list[tuple[int, float]]]:
        """Return the `count` likeliest values of each patch with probabilities, best first."""
        found = []
        for patch in self._drawn:
            p = patch_log_probabilities(patch.node_logits)[0].exp()
            values, order = p.topk(min(count, len(p)))
            found.append(list(zip(order.tolist(), values.tolist(), strict=True)))
        return found


class Watch:
    """An iterator over the stretches of one generated sequence. Iterate over it once."""

    def __init__(
        self,
        prompt_metrics: StreamMetrics,
        stretches: Iterator[WatchedStretch],
        drawn: PatchStream | None = None,
    ) -> None:
        self.prompt_metrics = prompt_metrics
        """Metrics of the prompt, one value per whole patch."""
        self._stretches, self._drawn = stretches, drawn

    def __iter__(self) -> Iterator[WatchedStretch]:
        return self._stretches

    @property
    def ended(self) -> Ended | None:
        """Reason for the end of generation. None until it has ended."""
        return None if self._drawn is None else self._drawn.ended


def watch(
    source: Source,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    generator: torch.Generator | None = None,
    *,
    patches_at_once: int = 1,
    window_bits: int = WINDOW_BITS,
    stop: Stop = (),
) -> Watch:
    """Generate one sequence in stretches of `patches_at_once` patches, with metrics.

    The bits equal those of `stream_bits` with the same generator. Longer stretches cost less
    (`benchmarks/bench_telemetry.py`). Raises the errors of `stream_patches`, and `ConfigError` for
    a batch of prompts.
    """
    if len(prompt_bits) != 1:
        raise ConfigError(
            f"watch takes one sequence, got {len(prompt_bits)}; call it once for each"
        )
    config = source.config
    drawn = stream_patches(begin(source), prompt_bits, max_new_bits, sampling, generator, stop=stop)
    telemetry = StreamTelemetry(
        patch_size=config.patch_size, symbol_bits=config.bits_per_byte, window_bits=window_bits
    )
    prompt = prompt_bits[0].cpu().numpy().astype(np.uint8)
    likelihood = drawn.prompt_likelihood[0].cpu().double().numpy()
    prompt_metrics = telemetry.read(prompt, likelihood_logits(prompt, likelihood))
    stretches = _stretches(drawn, telemetry, config.patch_size, patches_at_once)
    return Watch(prompt_metrics, stretches, drawn)


def bit_metrics(
    source: Source, bits: Integer[Tensor, "B T"], *, window_bits: int = WINDOW_BITS
) -> list[StreamMetrics]:
    """Return the metrics of finished sequences. They equal those of `watch` during generation."""
    config = source.config
    predictor = begin(source, len(bits))
    likelihood = predictor.read(bits.to(predictor.device)).cpu().numpy()
    return [
        StreamTelemetry(
            patch_size=config.patch_size, symbol_bits=config.bits_per_byte, window_bits=window_bits
        ).read(row, likelihood_logits(row, found))
        for row, found in zip(bits.cpu().numpy(), likelihood, strict=True)
    ]


def byte_metrics(
    source: Source, rows: UInt8[np.ndarray, "B n"], *, window_bits: int = WINDOW_BITS
) -> list[StreamMetrics]:
    """Return the metrics of sequences of n bytes, computed a few sequences at a time. A source
    other than a network reads them one by one."""
    at_once = _ROWS_AT_ONCE if isinstance(source, BitTransformer) else 1
    found: list[StreamMetrics] = []
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        bits = torch.from_numpy(unpack_bytes(part, parity=source.config.parity))
        found += bit_metrics(source, bits, window_bits=window_bits)
    return found


def likelihood_logits(
    bits: Integer[np.ndarray, " T"], log2_likelihood: Float[np.ndarray, " T"]
) -> Float[np.ndarray, " T"]:
    """Convert log2 of each bit's probability to the log-odds of a one."""
    nats = np.asarray(log2_likelihood, np.float64) * math.log(2)
    with np.errstate(divide="ignore"):
        odds = nats - np.log(-np.expm1(nats))
    return np.asarray(np.where(np.asarray(bits) == 1, odds, -odds))


def _stretches(
    drawn: Iterator[DrawnPatch], telemetry: StreamTelemetry, patch_size: int, at_once: int
) -> Iterator[WatchedStretch]:
    waiting: list[DrawnPatch] = []
    for patch in drawn:
        waiting.append(patch)
        if len(waiting) == at_once:
            yield _observe(tuple(waiting), telemetry, patch_size)
            waiting = []
    if waiting:
        yield _observe(tuple(waiting), telemetry, patch_size)


def _observe(
    drawn: tuple[DrawnPatch, ...], telemetry: StreamTelemetry, patch_size: int
) -> WatchedStretch:
    nodes = torch.cat([patch.node_logits for patch in drawn]).cpu().float().numpy()
    prefix = drawn[0].prefix[0].cpu().numpy().astype(np.uint8)
    new = torch.cat([patch.bits for patch in drawn], dim=1)[0].cpu().numpy().astype(np.uint8)
    odds = np.empty(len(new))
    _path_odds(nodes, prefix, new, patch_size, odds)
    p_ones = torch.sigmoid(torch.from_numpy(odds)).numpy()
    return WatchedStretch(new, p_ones, telemetry.read(new, odds), drawn)


@compiled
def _path_odds(
    nodes: np.ndarray, prefix: np.ndarray, new: np.ndarray, patch_size: int, odds: np.ndarray
) -> None:
    """Write each new bit's log-odds of a one to `odds`. The first patch begins with `prefix`."""
    node = 1
    for bit in prefix:
        node = 2 * node + bit
    for t in range(new.size):
        patch, place = divmod(prefix.size + t, patch_size)
        if place == 0:
            node = 1
        odds[t] = nodes[patch, node]
        node = 2 * node + new[t]
