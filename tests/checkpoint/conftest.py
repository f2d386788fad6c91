"""Writes, checks and changes a sample checkpoint. The folder golden/ holds a copy of it.

`python tests/checkpoint/conftest.py FOLDER` writes the copy again. Only a new version of the
format needs that.
"""

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bit_transformer.checkpoint.format import MANIFEST, Checkpoint, save_checkpoint


class Sample:
    """A small checkpoint that holds every kind of value."""

    golden = Path(__file__).parent / "golden"
    config = {"d_model": 8, "patch_size": 8, "rate": 0.25, "name": "grün", "memory": [16, 24]}  # noqa: RUF012
    metadata = {"step": 3, "held_out_bits_per_byte": None}  # noqa: RUF012

    def weights(self) -> dict[str, torch.Tensor]:
        return {
            "head.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
            "norm": torch.tensor(0.5, dtype=torch.bfloat16),
        }

    def training_state(self) -> dict[str, Any]:
        return {
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.95)},
            "loader": {"position": 12},
            "best": math.inf,
            "flags": [True, None],
        }

    def write(self, folder: Path) -> Path:
        save_checkpoint(
            folder,
            weights=self.weights(),
            config=self.config,
            training_state=self.training_state(),
            metadata=self.metadata,
        )
        return folder

    def check(self, checkpoint: Checkpoint) -> None:
        """Check that a checkpoint equals what `write` saved, in values and types."""
        assert checkpoint.config == self.config
        assert checkpoint.metadata == self.metadata
        assert checkpoint.weights.keys() == self.weights().keys()
        for name, tensor in self.weights().items():
            assert checkpoint.weights[name].dtype == tensor.dtype
            assert torch.equal(checkpoint.weights[name], tensor)
        state = checkpoint.training_state
        assert torch.equal(state["optimizer"]["state"][0].pop("step"), torch.tensor(3.0))
        expected = self.training_state()
        expected["optimizer"]["state"][0].clear()
        assert state == expected
        assert isinstance(state["optimizer"]["betas"], tuple)

    def reseal(self, folder: Path, **changes: Any) -> None:
        """Change the manifest and correct its checksum, as someone who knows the format could."""
        path = folder / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8")) | changes
        del manifest["sha256"]
        content = json.dumps(manifest, sort_keys=True).encode()
        path.write_text(json.dumps(manifest | {"sha256": hashlib.sha256(content).hexdigest()}))


@pytest.fixture
def sample() -> Sample:
    return Sample()


if __name__ == "__main__":
    Sample().write(Path(sys.argv[1]))
