"""The codec's arithmetic gives the network's predictions, and they depend on the bits alone."""

import hashlib

import numpy as np
import pytest
import torch

from bit_transformer import BitTransformerLM, quantize_dynamic
from bit_transformer.compression import network_self_test
from bit_transformer.compression.encoding import Shared
from bit_transformer.compression.lane_network import LaneNetwork, network_digest
from bit_transformer.errors import ForeignArithmeticError, UnsupportedCombination
from bit_transformer.model.stack import PlainStack

_SIZES = {"d_model": 32, "nhead": 2, "num_layers": 2, "dim_feedforward": 64, "memory_slots": 256}


def _model(**settings) -> BitTransformerLM:
    torch.manual_seed(0)
    model = BitTransformerLM(**{**_SIZES, "max_seq_len": 360, **settings}).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


def _patches(model: BitTransformerLM, lanes: int, count: int) -> np.ndarray:
    values = 2**model.config.patch_size
    return np.random.default_rng(0).integers(0, values, (count, lanes))


def _log_odds(network: LaneNetwork, patches: np.ndarray) -> np.ndarray:
    reader = network.begin(patches.shape[1])
    found = [reader.log_odds]
    for row in patches:
        reader.read(row)
        found.append(reader.log_odds)
    return np.stack(found)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reversible": True},
        {"logit_cap": 3.0},
        {"memory_bits": ()},
        {"patch_size": 9, "parity": True},
        {"patch_size": 5},
        {"patch_size": 1},
        {"leaf_logits": True},
        {"leaf_logits": True, "logit_cap": 3.0, "patch_size": 9, "parity": True},
        {"use_act": True, "act_threshold": 1.0},
        {"d_model": 36, "nhead": 3},
    ],
    ids=str,
)
def test_lanes_are_the_network(settings):
    model = _model(**settings)
    patches = _patches(model, 3, 35)
    with torch.no_grad():
        expected = model.network(torch.from_numpy(patches.T)).numpy() * 256
    found = _log_odds(LaneNetwork(model.network), patches).transpose(1, 0, 2)
    expected = expected[:, :, : found.shape[2]]
    assert np.abs(found - expected)[:, :, 1:].max() < 0.51
    assert found.std() > 30


def test_an_unknown_stack_is_refused_and_not_computed_as_a_plain_one():
    class SkipStack(PlainStack):
        pass

    network = _model().network
    network.stack = SkipStack(network.config)
    with pytest.raises(UnsupportedCombination, match="does not compute a SkipStack, only"):
        LaneNetwork(network)


def test_integer_weights_are_read_as_the_numbers_they_stand_for():
    model = _model()
    patches = _patches(model, 2, 12)
    plain = _log_odds(LaneNetwork(model.network), patches)
    rounded = _log_odds(LaneNetwork(quantize_dynamic(model).network), patches)
    assert 0 < np.abs(plain - rounded)[..., 1:].mean() < 12


def test_a_lane_knows_nothing_of_other_lanes_or_threads():
    network = _model().network
    patches = _patches(_model(), 5, 50)
    together = _log_odds(LaneNetwork(network), patches)
    np.testing.assert_array_equal(_log_odds(LaneNetwork(network, threads=3), patches), together)
    for lane in range(5):
        alone = _log_odds(LaneNetwork(network), patches[:, lane : lane + 1])
        np.testing.assert_array_equal(alone[:, 0], together[:, lane])


def test_lanes_go_on_beyond_the_context_with_its_newest_part():
    model = _model(memory_bits=())
    held = model.config.context_patches + 1
    patches = _patches(model, 1, 3 * held)
    found = _log_odds(LaneNetwork(model.network), patches)
    other = patches.copy()
    other[: len(patches) - 2 * held] ^= 1
    changed = _log_odds(LaneNetwork(model.network), other)
    # Each layer reads one ring buffer, so two layers reach back two ring buffers at most.
    assert not np.array_equal(found[-held], changed[-held])
    np.testing.assert_array_equal(found[-1], changed[-1])


def test_the_digest_covers_every_weight_and_the_configuration():
    model = _model()
    digests = {network_digest(model.network)}
    for weight in model.parameters():
        with torch.no_grad():
            weight.view(-1)[-1] += 1
        digests.add(network_digest(model.network))
    assert len(digests) == 1 + len(list(model.parameters()))
    assert network_digest(_model().network) != network_digest(_model(rotary_base=500.0).network)


def test_rotations_need_no_mathematical_library():
    """The rotation is fixed to the last bit. Any other value would be another format."""
    rotation = LaneNetwork(network_self_test.reference_network())._weights.rotation
    assert hashlib.sha256(rotation.astype("<f8").tobytes()).hexdigest()[:16] == "4c62155b3819d324"


def test_foreign_arithmetic_is_refused(monkeypatch):
    with_network = Shared(LaneNetwork(network_self_test.reference_network()))
    with_network.check_arithmetic()
    monkeypatch.setattr(network_self_test, "_NETWORK_DIGEST", "0" * 16)
    Shared().check_arithmetic()
    with pytest.raises(ForeignArithmeticError, match="IEEE 754"):
        with_network.check_arithmetic()
