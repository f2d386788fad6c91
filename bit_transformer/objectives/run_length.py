"""Run-length coded batches, a documented feature of an earlier system.

A batch may be run-length coded and decoded, which changes nothing, or the network trains on the
run-length streams themselves. Neither helps: see `benchmarks/bench_run_length.py`.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.bits.run_length import compress_bits, decompress_bits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.base import Objective
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.ramp import cosine_ramp


class RunLength:
    """Wraps an objective and run-length codes some of its training batches.

    The shares rise from 0 along half a cosine over the first part of the run (`ramp`). Torch's
    global generator draws the batches, because its state is part of a run's checkpoints.
    """

    def __init__(self, objective: Objective, config: ObjectiveConfig) -> None:
        self._objective, self._config = objective, config
        self.name, self.causal = objective.name, objective.causal

    def loss(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The loss of the batch or of its streams, in bits per byte of the coded or plain input."""
        config, drawn = self._config, float(torch.rand(()))
        scale = cosine_ramp(progress / config.ramp, 0.0, 1.0, 1) if config.ramp else 1.0
        if drawn < config.compress_prob * scale:
            bits = through_run_lengths(bits)
        elif drawn < (config.compress_prob + config.direct_prob) * scale:
            bits = run_length_streams(bits, parity=network.config.parity)
        return self._objective.loss(network, bits, progress)

    def code_length(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """See `Objective`."""
        return self._objective.code_length(network, bits)

    def evaluate(
        self, network: BitTransformer, data: Iterable[UInt8[np.ndarray, " _"]]
    ) -> Iterator[Float[np.ndarray, " _"]]:
        """See `Objective`."""
        return self._objective.evaluate(network, data)


def through_run_lengths(bits: Integer[Tensor, "B T"]) -> Integer[Tensor, "B T"]:
    """The same bits after run-length coding and decoding."""
    rows = [decompress_bits(compress_bits(row)) for row in bits.cpu().numpy().astype(np.uint8)]
    return torch.from_numpy(np.stack(rows)).to(bits.device, bits.dtype)


def run_length_streams(
    bits: Integer[Tensor, "B T"], *, parity: bool = False
) -> Integer[Tensor, "B T"]:
    """The run-length stream of each row in bits. It is cut, or repeated, to the length T."""
    length = bits.shape[1]
    rows = []
    for row in bits.cpu().numpy().astype(np.uint8):
        stream = unpack_bytes(compress_bits(row), parity=parity)
        rows.append(np.resize(stream, length))
    return torch.from_numpy(np.stack(rows)).to(bits.device, bits.dtype)
