"""Fixtures: a small corpus, and the settings of a run that takes a second."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bit_transformer import DataConfig, ModelConfig, RunConfig


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a text of 20 kB."""
    words = ["bit", "byte", "tree", "patch", "loss", "step", "\n"]
    text = " ".join(np.random.default_rng(0).choice(words, 5000))
    path = tmp_path / "corpus.txt"
    path.write_text(text)
    return path


@pytest.fixture
def settings(corpus: Path):
    """Return a function that makes run settings. Arguments set any field except data and model."""

    def make(**train) -> RunConfig:
        model = ModelConfig(
            d_model=16,
            nhead=2,
            num_layers=2,
            dim_feedforward=32,
            max_seq_len=256,
            dropout=0.1,
            memory_slots=256,
            memory_width=4,
            memory_dropout=0.1,
        )
        defaults = {
            "steps": 12,
            "batch_size": 4,
            "evaluate_every": 4,
            "evaluate_bytes": 256,
            "checkpoint_every": 4,
            "device": "cpu",
        }
        # `from_dict` moves settings of other sections to their place.
        given = {"train": defaults | train}
        return dataclasses.replace(
            RunConfig.from_dict(given), data=DataConfig((str(corpus),)), model=model
        )

    return make
