"""Settings of the whole test suite."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    print_blob=True,
    # This check measures how busy the machine is.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    """Return a seeded generator on the CPU."""
    return torch.Generator().manual_seed(0)
