"""The checkpoints of a run: step-00001000/ and so on. The newest is always valid.

A checkpoint is complete if its manifest and all its files are intact. `CheckpointFolder.latest`
verifies every byte and returns the newest complete checkpoint. A warning names the damaged ones
that it skipped. It raises when none is complete, so that a run does not silently start over.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from bit_transformer.atomic import (
    TRASH,
    atomic_write_text,
    leftovers,
    remove_tree,
    storage_errors,
    temporary_sibling,
)
from bit_transformer.checkpoint.format import (
    SINGLE_WRITER,
    CheckpointWriter,
    is_complete,
    save_checkpoint,
    verify,
)
from bit_transformer.checkpoint.migrate import DEFAULT_OBJECTIVE
from bit_transformer.errors import CheckpointCorruptError, CheckpointNotFoundError, ConfigError

_log = logging.getLogger(__name__)
_warned: set[tuple[Path, str]] = set()
"""Warnings about damaged checkpoints, each of which is logged once in a process."""
POINTER = "latest"
_PREFIX = "step-"
_NAME = re.compile(r"step-([0-9]{8,})")
_REMEDY = re.compile(r"; (use another checkpoint of the run|name a run or checkpoint folder)$")


def _without_remedy(error: Exception) -> str:
    return _REMEDY.sub("", str(error))


class CheckpointFolder:
    """Checkpoints by step, and a file `latest` that names the newest. Only one process writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, step: int) -> Path:
        """The path of the checkpoint of a step, even if there is none."""
        return self.root / f"{_PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
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
        objective: str = DEFAULT_OBJECTIVE,
        writer: CheckpointWriter = SINGLE_WRITER,
    ) -> Path:
        """Write or replace the checkpoint of a step and point `latest` at it.

        Raises `StorageError` and leaves the existing checkpoints as they are.
        """
        self._sweep()
        target = self.path_of(step)
        save_checkpoint(
            target,
            weights=weights,
            config=config,
            training_state=training_state,
            metadata=metadata,
            objective=objective,
            replace=True,
            writer=writer,
        )
        atomic_write_text(self.root / POINTER, target.name + "\n")
        # The first sweep keeps parked checkpoints while no other one is complete. Now one is.
        self._sweep()
        return target

    def latest(self, *, training: bool = False) -> Path | None:
        """The newest checkpoint with intact weights, and with `training` an intact training state.

        Candidates in order: the one that the pointer names, the others by descending step, and
        those that a kill left parked between the two renames of a replacement. None when there are
        none. Raises `CheckpointCorruptError` when all are damaged, and `CheckpointVersionError` for
        one of a newer version, which is not damaged and must not be skipped.
        """
        missing = self._missing()
        damaged = [f"{missing} is missing"] if missing else []
        for path in self._candidates():
            try:
                verify(path, training=training)
            except (CheckpointCorruptError, CheckpointNotFoundError) as error:
                if not path.exists():
                    # The writer has removed it meanwhile, so there is a newer one.
                    return self.latest(training=training)
                damaged.append(_without_remedy(error))
                continue
            self._warn(damaged, path)
            return path
        if damaged:
            raise CheckpointCorruptError(
                f"{self.root} holds no complete checkpoint: {damaged[0]}; restore a copy of one, "
                "or begin a new run in another folder"
            )
        return None

    def _warn(self, damaged: list[str], used: Path) -> None:
        warning = (self.root, "; ".join(damaged))
        if damaged and warning not in _warned:
            _warned.add(warning)
            _log.warning("%s; the checkpoint %s is used instead", warning[1], used)

    def prune(self, keep: int, protect: Set[Path] = frozenset()) -> None:
        """Remove all checkpoints except the newest `keep`, the protected ones and the latest.

        Raises `StorageError` when the disk fails.
        """
        if keep < 0:
            raise ConfigError(f"keep must be 0 or more, got {keep}; give the number to keep")
        latest = self._newest_complete()
        kept = {path.resolve() for path in (*protect, *([latest] if latest else []))}
        steps = self.steps()
        for path in map(self.path_of, steps[: max(0, len(steps) - keep)]):
            if path.resolve() not in kept:
                self._remove(path)

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, unless no earlier one is complete.

        Raises `StorageError` when the disk fails.
        """
        earlier = [one for one in self.steps() if one <= step and is_complete(self.path_of(one))]
        if not earlier:
            return
        atomic_write_text(self.root / POINTER, self.path_of(earlier[-1]).name + "\n")
        for later in self.steps():
            if later > step:
                self._remove(self.path_of(later))

    def _newest_complete(self) -> Path | None:
        """The newest complete checkpoint. It checks only the manifest and the sizes of the files,
        because every save calls it."""
        return next((path for path in self._newest_first() if is_complete(path)), None)

    def _candidates(self) -> Iterator[Path]:
        """All checkpoints, including parked ones, the newest first."""
        yield from self._newest_first()
        yield from sorted(self.root.glob(f"{TRASH}*"), reverse=True)

    def _newest_first(self) -> list[Path]:
        """The checkpoint that the pointer names, then the others by descending step."""
        paths = [self.path_of(step) for step in reversed(self.steps())]
        named = self._named()
        if named in paths:
            paths.remove(named)
            paths.insert(0, named)
        return paths

    def _missing(self) -> Path | None:
        """The checkpoint that the pointer names, if it does not exist."""
        named = self._named()
        return named if _NAME.fullmatch(named.name) and not named.exists() else None

    def _named(self) -> Path:
        try:
            return self.root / (self.root / POINTER).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return self.root

    def _remove(self, path: Path) -> None:
        # The rename comes first, so that an interrupted removal does not leave half a checkpoint.
        with storage_errors(path):
            trash = temporary_sibling(path, TRASH)
            path.rename(trash)
            remove_tree(trash)

    def _sweep(self) -> None:
        """Remove the files of killed writers, except a parked checkpoint that is the only one."""
        with storage_errors(self.root):
            has_complete = self._newest_complete() is not None
            for path in leftovers(self.root):
                if has_complete or not path.name.startswith(TRASH):
                    remove_tree(path)
