"""A check, once per process, that compiled code computes what the format says.

Caught here are compiled functions left over on disk from before a change to what they call, and
processors or compilers that do not keep to IEEE 754. Either would write files that nobody else
can read.
"""

import functools
import hashlib

import numpy as np
import torch
from jaxtyping import UInt8

from bit_transformer.compression.block import BlockCoder, BlockShape
from bit_transformer.compression.contexts import BINARY, RICH_TEXT, TEXT
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.errors import ForeignArithmeticError
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer

_SAMPLE = b"".join(b"%d bits make a byte, %d a patch; " % (8 * n % 61, n * n) for n in range(40))
_MIXER_DIGEST = "9beeb721317aa853"
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


def check_arithmetic(*, network: bool) -> None:
    """Raises `ForeignArithmeticError` where mixing differs, or with `network` a network's step or
    mixing beside it."""
    parts = [("mixing", mixer_digest(), _MIXER_DIGEST)]
    if network:
        parts.append(("the network's step", network_digest_of_steps(), _NETWORK_DIGEST))
        parts.append(("mixing beside a network", hybrid_digest(), _HYBRID_DIGEST))
    for name, found, pinned in parts:
        if found != pinned:
            raise ForeignArithmeticError(
                f"{name} computes {found} here and has to compute {pinned}: remove the __pycache__ "
                "folders of bit_transformer, in which an older version may be left over; if that "
                "does not help, this processor cannot read or write compressed files"
            )


@functools.cache
def mixer_digest() -> str:
    """Of the codes of a sample, by each profile."""
    return _digest(np.concatenate([_code(profile) for profile in (TEXT, BINARY, RICH_TEXT)]))


@functools.cache
def network_digest_of_steps() -> str:
    """Of the log-odds of the reference network."""
    reader = LaneNetwork(reference_network()).begin(_LANES)
    found = [reader.log_odds]
    for step in range(_STEPS):
        reader.read((np.arange(_LANES) * 89 + step * step) % 256)
        found.append(reader.log_odds)
    return _digest(np.stack(found))


@functools.cache
def hybrid_digest() -> str:
    """Of the code of a sample, the reference network taking part."""
    return _digest(_code(RICH_TEXT, LaneNetwork(reference_network())))


def _code(profile: int, network: LaneNetwork | None = None) -> UInt8[np.ndarray, " _"]:
    """Of the sample, as a block of one segment."""
    shape = BlockShape(len(_SAMPLE), 2 * len(_SAMPLE), 1, profile, 12)
    coder = BlockCoder(shape, network=network)
    (segment,) = coder.encode(np.frombuffer(_SAMPLE, np.uint8).copy())
    return np.frombuffer(segment.payload, np.uint8)


def reference_network() -> BitTransformer:
    """A small network whose weights are numbers that anyone can make."""
    network = BitTransformer(_CONFIG)
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            steps = torch.arange(weight.numel()) * (2 * number + 7919) % 1021
            weight.copy_(((steps - 510) / 1024).reshape(weight.shape))
    return network.eval()


def _digest(values: np.ndarray) -> str:
    little_endian = values.astype(values.dtype.newbyteorder("<"))
    return hashlib.blake2b(little_endian.tobytes(), digest_size=8).hexdigest()
