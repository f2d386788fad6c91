"""Batches pass through the run-length code or become its streams, at the requested shares."""

import numpy as np
import pytest
import torch

from bit_transformer import ModelConfig, compress_bits
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.errors import ConfigError
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import Causal
from bit_transformer.objectives.run_length import (
    ObjectiveConfig,
    RunLength,
    run_length_streams,
    through_run_lengths,
)

_CONFIG = ModelConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=16, max_seq_len=512)


def _bits() -> torch.Tensor:
    return (torch.rand(3, 256, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)


class _Seen(Causal):
    """Keeps the batches that it receives."""

    def __init__(self, seen):
        super().__init__()
        self._seen = seen

    def loss(self, network, bits, progress=1.0):
        self._seen.append(bits)
        return torch.zeros(())


def test_without_a_ramp_the_whole_share_is_there_at_once():
    seen = []
    objective = RunLength(_Seen(seen), ObjectiveConfig(direct_prob=1.0, ramp=0.0))
    objective.loss(BitTransformer(_CONFIG), _bits(), 0.0)
    assert torch.equal(seen[0], run_length_streams(_bits()))


def test_the_way_through_run_lengths_changes_neither_bits_nor_loss():
    bits = _bits()
    assert torch.equal(through_run_lengths(bits), bits)
    network = BitTransformer(_CONFIG)
    plain = Causal().loss(network, bits)
    coded = RunLength(Causal(), ObjectiveConfig(compress_prob=1.0)).loss(network, bits)
    assert torch.equal(plain, coded)


@pytest.mark.parametrize("parity", [False, True])
def test_streams_are_the_bytes_of_the_run_length_code(parity):
    for row, found in zip(_bits(), run_length_streams(_bits(), parity=parity), strict=True):
        stream = unpack_bytes(compress_bits(row.numpy()), parity=parity)
        assert np.array_equal(found.numpy(), np.resize(stream, 256))


def test_batches_are_drawn_at_the_shares_asked_for():
    bits, seen = _bits(), []
    objective = RunLength(_Seen(seen), ObjectiveConfig(compress_prob=0.2, direct_prob=0.5))
    torch.manual_seed(0)
    network, streams = BitTransformer(_CONFIG), run_length_streams(bits)
    # The shares rise along half a cosine over the first half of the run.
    for progress, share in ((1.0, 0.5), (0.5, 0.5), (0.25, 0.25), (0.0, 0.0)):
        seen.clear()
        for _ in range(400):
            objective.loss(network, bits, progress)
        direct = sum(torch.equal(given, streams) for given in seen) / 400
        assert direct == pytest.approx(share, abs=0.07)
        assert all(torch.equal(given, streams) or torch.equal(given, bits) for given in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compress_prob": 1.2}, r"compress_prob must be in \[0, 1\], got 1.2"),
        ({"compress_prob": 0.6, "direct_prob": 0.6}, "must add up to at most 1, got 0.6 and 0.6"),
    ],
)
def test_shares_have_limits(settings, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**settings)
