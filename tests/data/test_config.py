import dataclasses

import pytest

from bit_transformer.data.config import DataConfig
from bit_transformer.errors import ConfigError


def test_defaults_are_valid_and_frozen():
    config = DataConfig()
    assert (config.sources, config.held_out_fraction, config.held_out_seed) == ((), 0.05, 0)
    assert (config.held_out_layout, config.held_out_regions) == ("spread", 32)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.held_out_seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out_fraction": 1.0}, r"held_out_fraction must be in \[0, 1\), got 1.0"),
        ({"held_out_fraction": -0.01}, r"got -0.01"),
        ({"held_out_regions": 0}, "at least 1, got 0"),
        ({"sources": ("a", "")}, "non-empty names"),
    ],
)
def test_values_outside_their_limits_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sources", "abc", "tuple of non-empty names, got 'abc'"),
        ("held_out_layout", "head", "one of spread, tail, got 'head'"),
    ],
)
def test_values_of_a_wrong_type_are_refused_too(name, value, message):
    """The value is set after construction, because the type checker would refuse it earlier."""
    config = DataConfig()
    object.__setattr__(config, name, value)
    with pytest.raises(ConfigError, match=message):
        config.__post_init__()
