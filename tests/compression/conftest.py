"""Networks that the codec's tests share."""

import pytest

from bit_transformer.compression import block
from bit_transformer.compression.encoding import Shared
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.compression.network_self_test import reference_network
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer

_SMALL = {"d_model": 16, "nhead": 2, "num_layers": 1, "dim_feedforward": 16, "memory_slots": 64}


def _network(**settings) -> LaneNetwork:
    fields = {**_SMALL, "max_seq_len": 90, "memory_bits": (16,), "memory_width": 2, **settings}
    return LaneNetwork(BitTransformer(ModelConfig.from_dict(fields)).eval(), threads=2)


@pytest.fixture(scope="session")
def shared_by_mode() -> dict[str, Shared]:
    """Return what encoder and decoder share: networks of several shapes, or none for the mixer."""
    return {
        "mixer": Shared(),
        "hybrid": Shared(LaneNetwork(reference_network())),
        "flat bits": Shared(_network(patch_size=1)),
        "five bits": Shared(_network(patch_size=5)),
        "parity": Shared(_network(patch_size=9, parity=True)),
        "reversible": Shared(_network(reversible=True)),
    }


@pytest.fixture
def short_lanes(monkeypatch):
    """Let even a few bytes be coded in several lanes."""
    monkeypatch.setattr(block, "_MIN_LANE_BYTES", 4)
