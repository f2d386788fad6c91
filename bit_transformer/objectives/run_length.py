"""Run-length coded data in training: the same bits by another way, or the code itself as data.

A batch is drawn to be one of three. *Compressed*: its bits go through the run-length code and back,
which changes nothing and shows that it does not. *Direct*: the network trains on the streams
themselves, byte by byte of value and run, as much of each as fills the window. Otherwise: as it is.
The shares rise from 0 along half a cosine over the first part of a run.

This was a feature of an earlier system, and does not help: `benchmarks/bench_run_length.py`.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.bits.run_length import compress_bits, decompress_bits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.config import RunLengthConfig

Objective = Callable[[BitTransformer, Integer[Tensor, "B T"]], Float[Tensor, ""]]


class RunLengthObjective:
    """An objective on batches of which some are run-length coded.

    `reached`, from 0 to 1, scales both shares. What a batch becomes is drawn from torch's global
    generator, whose state is part of a run's checkpoints.
    """

    def __init__(self, objective: Objective, config: RunLengthConfig) -> None:
        self._objective, self._config = objective, config
        self.reached = 1.0

    def __call__(self, network: BitTransformer, bits: Integer[Tensor, "B T"]) -> Float[Tensor, ""]:
        """The loss of the batch, or of its streams, in bits per byte of what was read."""
        drawn = float(torch.rand(()))
        if drawn < self._config.compress_prob * self.reached:
            bits = through_run_lengths(bits)
        elif drawn < (self._config.compress_prob + self._config.direct_prob) * self.reached:
            bits = run_length_streams(bits, parity=network.config.parity)
        return self._objective(network, bits)


def through_run_lengths(bits: Integer[Tensor, "B T"]) -> Integer[Tensor, "B T"]:
    """The same bits, by way of their run-length streams."""
    rows = [decompress_bits(compress_bits(row)) for row in bits.cpu().numpy().astype(np.uint8)]
    return torch.from_numpy(np.stack(rows)).to(bits.device, bits.dtype)


def run_length_streams(
    bits: Integer[Tensor, "B T"], *, parity: bool = False
) -> Integer[Tensor, "B T"]:
    """As much of each row's run-length stream, in bits, as fits into T; short ones are repeated."""
    length = bits.shape[1]
    rows = []
    for row in bits.cpu().numpy().astype(np.uint8):
        stream = unpack_bytes(compress_bits(row), parity=parity)
        rows.append(np.resize(stream, length))
    return torch.from_numpy(np.stack(rows)).to(bits.device, bits.dtype)
