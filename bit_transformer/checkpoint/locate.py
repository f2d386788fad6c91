"""From a path a user names to the checkpoint that is meant."""

from pathlib import Path

from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import CheckpointNotFoundError


def locate_checkpoint(path: Path) -> Path:
    """The checkpoint folder itself, or the latest one of a run folder or of its `checkpoints`.

    Raises `CheckpointNotFoundError` saying what was looked for.
    """
    if (path / MANIFEST).is_file():
        return path
    for folder in (path / "checkpoints", path):
        latest = CheckpointFolder(folder).latest()
        if latest is not None:
            return latest
    what = "holds no whole checkpoint" if path.exists() else "does not exist"
    raise CheckpointNotFoundError(
        f"{path} {what}; looked for {MANIFEST}, checkpoints/step-*/{MANIFEST} and "
        f"step-*/{MANIFEST}: name a run folder or a checkpoint folder"
    )
