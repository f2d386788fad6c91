"""Synthetic metrics of good and of bad sequences, without a model."""

import numpy as np
import pytest

from bit_transformer.telemetry.stream import METRIC_FIELDS, StreamMetrics


def metrics_around(seed: int, length: int = 60, **levels: float) -> StreamMetrics:
    """Return metrics that vary by 0.02 around their levels."""
    rng = np.random.default_rng(seed)
    usual = {"k": 0.7, "c": 0.6, "s": 0.95, "t": 0.9, "u": 0.4, "surprisal": 0.3} | levels
    return StreamMetrics(
        **{name: np.clip(rng.normal(usual[name], 0.02, length), 0, 1) for name in METRIC_FIELDS}
    )


@pytest.fixture
def good() -> list[StreamMetrics]:
    """Return a thousand sequences of two kinds: prose, and tables with a low C and a high K."""
    kinds = [{}, {"c": 0.2, "k": 0.95, "u": 0.8}]
    return [metrics_around(seed, **kinds[seed % 2]) for seed in range(1000)]
