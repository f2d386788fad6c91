"""The checkpoints of a run: step-00001000/ and so on, the newest of them always valid.

One policy for damage: whoever asks for the newest checkpoint gets the newest whole one, every byte
of which was verified, and a warning names what was passed over. Where none is whole there is an
error, so that nothing begins anew by itself.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Set
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
_announced: set[tuple[Path, str]] = set()
"""What was passed over, said once a process."""
POINTER = "latest"
_PREFIX = "step-"
_NAME = re.compile(r"step-([0-9]{8,})")


_REMEDY = re.compile(r"; (use another checkpoint of the run|name a run or checkpoint folder)$")


def _without_remedy(error: Exception) -> str:
    return _REMEDY.sub("", str(error))


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
        objective: str = DEFAULT_OBJECTIVE,
        writer: CheckpointWriter = SINGLE_WRITER,
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
            objective=objective,
            replace=True,
            writer=writer,
        )
        atomic_write_text(self.root / POINTER, target.name + "\n")
        # Once more, for what was spared as long as nothing else was whole.
        self._sweep()
        return target

    def latest(self, *, training: bool = False) -> Path | None:
        """The newest checkpoint whose weights, and with `training` its training state, are whole;
        None when there is no checkpoint.

        The one the pointer names, else the one of the highest step, else one that a kill left
        parked between the two renames of its replacement. A warning names the damaged ones that
        were passed over. Raises `CheckpointCorruptError` when all of them are damaged, and
        `CheckpointVersionError` for one of a newer version, which is no damaged one to skip.
        """
        missing = self._missing()
        damaged = [f"{missing} is missing"] if missing else []
        for path in self._candidates():
            try:
                verify(path, training=training)
            except (CheckpointCorruptError, CheckpointNotFoundError) as error:
                if not path.exists():
                    # Rotated away meanwhile: there is a newer one.
                    return self.latest(training=training)
                damaged.append(_without_remedy(error))
                continue
            self._announce(damaged, path)
            return path
        if damaged:
            raise CheckpointCorruptError(
                f"{self.root} holds no whole checkpoint: {damaged[0]}; bring back a copy of one, "
                "or begin a new run in another folder"
            )
        return None

    def _announce(self, damaged: list[str], taken: Path) -> None:
        mark = (self.root, "; ".join(damaged))
        if damaged and mark not in _announced:
            _announced.add(mark)
            _log.warning("%s; the checkpoint %s is taken instead", mark[1], taken)

    def prune(self, keep: int, protect: Set[Path] = frozenset()) -> None:
        """Remove all but the newest `keep` checkpoints, the protected ones and the latest.

        Raises `StorageError` when the disk refuses.
        """
        if keep < 0:
            raise ConfigError(f"keep must be 0 or more, got {keep}; name how many to keep")
        latest = self._newest_standing()
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
        """The newest checkpoint by its manifest and the sizes of its files: no more is read while
        a run is saved."""
        return next((path for path in self._standing() if is_complete(path)), None)

    def _candidates(self) -> Iterator[Path]:
        """The newest first."""
        yield from self._standing()
        yield from sorted(self.root.glob(f"{TRASH}*"), reverse=True)

    def _standing(self) -> list[Path]:
        standing = [self.path_of(step) for step in reversed(self.steps())]
        named = self._named()
        if named in standing:
            standing.remove(named)
            standing.insert(0, named)
        return standing

    def _missing(self) -> Path | None:
        """The checkpoint that the pointer names, where it is not there."""
        named = self._named()
        return named if _NAME.fullmatch(named.name) and not named.exists() else None

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
