"""Fixtures: a model, its folder, and a run to upload."""

from pathlib import Path

import pytest

from bit_transformer import BitTransformerLM
from bit_transformer.cli.main import main
from tests.builders import tiny_model
from tests.hub.fixtures import away, hub, serving

__all__ = ["away", "hub", "serving"]


@pytest.fixture
def model() -> BitTransformerLM:
    """Return a small model with random weights."""
    return tiny_model()


@pytest.fixture
def folder(model: BitTransformerLM, tmp_path: Path) -> Path:
    """Return a checkpoint folder of the model."""
    return model.save_pretrained(tmp_path / "model", step=3, held_out_bits_per_byte=2.5)


TINY = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--dim-feedforward", "32"]
TINY += ["--max-seq-len", "256", "--memory-slots", "256", "--memory-width", "4", "--device", "cpu"]
TINY += ["--batch-size", "2", "--evaluate-every", "0"]
"""Settings of a run that takes a second."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text of 110 kB, in a folder whose name must not be published."""
    path = tmp_path_factory.mktemp("secret folder") / "corpus.txt"
    path.write_text("to be or not to be, that is the question\n" * 2650)
    return path


@pytest.fixture(scope="session")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with a calibrated gate."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    words = ["train", str(corpus), "--out", str(folder), "--held-out-fraction", "0.5", *TINY]
    assert main([*words, "--steps", "4", "--telemetry-every", "2"]) == 0
    return folder
