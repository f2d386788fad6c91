"""The checkpoints of a run: step-00001000/ and so on, the newest of them always valid."""

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from bit_transformer.checkpoint.atomic import (
    TRASH,
    atomic_write_text,
    leftovers,
    remove_tree,
    storage_errors,
    temporary_sibling,
)
from bit_transformer.checkpoint.format import is_complete, save_checkpoint
from bit_transformer.errors import ConfigError

POINTER = "latest"
_PREFIX = "step-"
_NAME = re.compile(r"step-([0-9]{8,})")


class CheckpointFolder:
    """Checkpoints by step, and a file `latest` that names the newest whole one. One writer only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, step: int) -> Path:
        """Where the checkpoint of that step is or would be."""
        return self.root / f"{_PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Steps of which a checkpoint exists, ascending."""
        found = (_NAME.fullmatch(path.name) for path in self.root.glob(f"{_PREFIX}*"))
        return sorted(int(match[1]) for match in found if match)

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Tensor],
        config: Mapping[str, Any],
        training_state: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the checkpoint of a step, in place of one of that step, and point `latest` at it.

        Raises `StorageError`; the checkpoints that were there stay as they were.
        """
        self._sweep()
        target = self.path_of(step)
        save_checkpoint(
            target,
            weights=weights,
            config=config,
            training_state=training_state,
            metadata=metadata,
            replace=True,
        )
        atomic_write_text(self.root / POINTER, target.name + "\n")
        # Once more, for what was spared as long as nothing else was whole.
        self._sweep()
        return target

    def latest(self) -> Path | None:
        """The newest whole checkpoint, None when there is none.

        The one the pointer names, else the one of the highest step, else one that a kill left
        parked between the two renames of its replacement.
        """
        standing = self._newest_standing()
        if standing is not None:
            return standing
        parked = sorted(self.root.glob(f"{TRASH}*"), reverse=True)
        return next((path for path in parked if is_complete(path)), None)

    def prune(self, keep: int, protect: Set[Path] = frozenset()) -> None:
        """Remove all but the newest `keep` checkpoints, the protected ones and the latest.

        Raises `StorageError` when the disk refuses.
        """
        if keep < 0:
            raise ConfigError(f"keep must be 0 or more, got {keep}; name how many to keep")
        latest = self.latest()
        spared = {path.resolve() for path in (*protect, *([latest] if latest else []))}
        steps = self.steps()
        for path in map(self.path_of, steps[: max(0, len(steps) - keep)]):
            if path.resolve() not in spared:
                self._remove(path)

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, unless nothing else is whole.

        Raises `StorageError` when the disk refuses.
        """
        earlier = [one for one in self.steps() if one <= step and is_complete(self.path_of(one))]
        if not earlier:
            return
        atomic_write_text(self.root / POINTER, self.path_of(earlier[-1]).name + "\n")
        for later in self.steps():
            if later > step:
                self._remove(self.path_of(later))

    def _newest_standing(self) -> Path | None:
        candidates = [self.path_of(step) for step in reversed(self.steps())]
        named = self._named()
        if named in candidates:
            candidates.insert(0, named)
        return next((path for path in candidates if is_complete(path)), None)

    def _named(self) -> Path:
        try:
            return self.root / (self.root / POINTER).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return self.root

    def _remove(self, path: Path) -> None:
        # Renamed first: a removal cut short must not leave something that looks like a checkpoint.
        with storage_errors(path):
            trash = temporary_sibling(path, TRASH)
            path.rename(trash)
            remove_tree(trash)

    def _sweep(self) -> None:
        """Remove what killed writers left behind, unless it is the only checkpoint there is."""
        with storage_errors(self.root):
            whole = self._newest_standing() is not None
            for path in leftovers(self.root):
                if whole or not path.name.startswith(TRASH):
                    remove_tree(path)
