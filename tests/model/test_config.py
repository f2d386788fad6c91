"""Every impossible configuration raises one clear error."""

import pytest

from bit_transformer.errors import ConfigError
from bit_transformer.model.config import ModelConfig, preset


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 100, "nhead": 3}, "divisible by nhead, got 100 and 3; try nhead=2"),
        ({"d_model": 12, "nhead": 4}, "must be even for rotary positions, got 3"),
        ({"patch_size": 13}, "patch_size must be 1 to 12, got 13"),
        ({"patch_size": 0}, "patch_size must be 1 to 12, got 0"),
        ({"parity": True}, "parity needs patch_size=9"),
        ({"max_seq_len": 4}, "must hold a patch of 8 bits, got 4"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"memory_slots": 1000}, "memory_slots must be a power of two"),
        ({"memory_bits": (0,)}, "memory_bits must be spans of at least 1 bit, got 0"),
        ({"rotary_base": 0.5}, "rotary_base must be above 1"),
        ({"logit_cap": float("inf")}, "logit_cap must be finite; 0 turns the cap off, got inf"),
        ({"logit_cap": -1.0}, "logit_cap must be at least 0, got -1.0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


def test_an_unknown_setting_is_named():
    with pytest.raises(ConfigError, match=r"unknown model settings \['d_modle'\]"):
        ModelConfig.from_dict({"d_modle": 64})


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ConfigError, match="use one of tiny, small, medium, large"):
        preset("huge")


@pytest.mark.parametrize("name", ["tiny", "small", "medium", "large"])
def test_presets_round_trip(name):
    config = preset(name)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(("patch_size", "orders"), [(1, (16, 24)), (8, (2, 3)), (12, (1, 2))])
def test_memory_spans_become_whole_patches(patch_size, orders):
    assert ModelConfig(patch_size=patch_size, memory_bits=(24, 16)).memory_orders == orders
