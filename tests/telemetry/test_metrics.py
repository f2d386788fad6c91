"""Telemetry of predictions against its definitions."""

import math

import pytest
import torch

from bit_transformer.telemetry.lazy import LazyReadings
from bit_transformer.telemetry.metrics import binary_entropy, negentropy


def test_binary_entropy_is_shannons():
    for p in (0.01, 0.3, 0.5, 0.99):
        expected = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
        logit = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64)
        assert binary_entropy(logit).item() == pytest.approx(expected)
    assert binary_entropy(torch.tensor([-200.0, 200.0])).tolist() == [0, 0]


def test_negentropy_goes_from_a_coin_flip_to_certainty():
    logits = torch.tensor([[0.0, 0.0], [50.0, -50.0], [0.0, 50.0]])
    assert negentropy(logits).tolist() == pytest.approx([0, 1, 0.5])


def test_readings_are_computed_once_and_only_when_looked_at():
    calls = []

    def reading() -> torch.Tensor:
        calls.append(1)
        return torch.ones(1)

    readings = LazyReadings(first=reading, second=reading)
    assert list(readings) == ["first", "second"]
    assert len(readings) == 2
    assert not calls
    assert readings["first"] is readings["first"]
    assert len(calls) == 1
    with pytest.raises(KeyError):
        readings["third"]
