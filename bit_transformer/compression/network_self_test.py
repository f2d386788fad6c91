"""The part of the self-test that needs a network, and so PyTorch."""

import functools

import numpy as np
import torch

from bit_transformer.compression.contexts import RICH_TEXT
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.compression.self_test import check, code, digest_of
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer

_NETWORK_DIGEST = "1b15f207fc1db77a"
_HYBRID_DIGEST = "94c5b6b303fa34cc"
_CONFIG = ModelConfig(
    d_model=16,
    nhead=2,
    num_layers=2,
    dim_feedforward=32,
    max_seq_len=64,
    memory_bits=(16, 24),
    memory_slots=256,
    memory_width=4,
    logit_cap=9.0,
)
_LANES, _STEPS = 3, 24


def check_network() -> None:
    """Raise `ForeignArithmeticError` unless a network and mixing with it pass their checks."""
    check("the network's step", network_digest_of_steps, _NETWORK_DIGEST)
    check("mixing beside a network", hybrid_digest, _HYBRID_DIGEST)


@functools.cache
def network_digest_of_steps() -> str:
    """Return a digest of the reference network's log-odds."""
    reader = LaneNetwork(reference_network()).begin(_LANES)
    found = [reader.log_odds]
    for step in range(_STEPS):
        reader.read((np.arange(_LANES) * 89 + step * step) % 256)
        found.append(reader.log_odds)
    return digest_of(np.stack(found))


@functools.cache
def hybrid_digest() -> str:
    """Return a digest of the sample's code with the reference network."""
    return digest_of(code(RICH_TEXT, LaneNetwork(reference_network())))


def reference_network() -> BitTransformer:
    """Return a small network whose weights follow a formula instead of a random generator."""
    network = BitTransformer(_CONFIG)
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            steps = torch.arange(weight.numel()) * (2 * number + 7919) % 1021
            weight.copy_(((steps - 510) / 1024).reshape(weight.shape))
    return network.eval()
