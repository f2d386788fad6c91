"""The checkpoints of a run: step-00001000/ and so on, the newest of them always valid."""

import os
import shutil
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from bit_transformer.checkpoint.atomic import atomic_write_text, storage_errors
from bit_transformer.checkpoint.format import is_complete, save_checkpoint

POINTER = "latest"
_PREFIX, _PARTIAL, _TRASH = "step-", ".tmp-", ".trash-"


class CheckpointFolder:
    """Checkpoints by step, and a file `latest` that names the newest whole one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, step: int) -> Path:
        """Where the checkpoint of that step is or would be."""
        return self.root / f"{_PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Steps of which a checkpoint exists, ascending."""
        names = [path.name.removeprefix(_PREFIX) for path in self.root.glob(f"{_PREFIX}*")]
        return sorted(int(name) for name in names if name.isdigit())

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Tensor],
        config: Mapping[str, Any],
        training_state: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the checkpoint of a step, replacing one of the same step, and point `latest` at
        it."""
        self._sweep()
        target = self.path_of(step)
        if target.exists():
            self._remove(target)
        save_checkpoint(
            target,
            weights=weights,
            config=config,
            training_state=training_state,
            metadata=metadata,
        )
        atomic_write_text(self.root / POINTER, target.name + "\n")
        return target

    def latest(self) -> Path | None:
        """The newest whole checkpoint, None when there is none."""
        candidates = [self.path_of(step) for step in reversed(self.steps())]
        pointer = self.root / POINTER
        if pointer.is_file():
            named = self.root / pointer.read_text(encoding="utf-8").strip()
            if named in candidates:
                candidates.insert(0, named)
        return next((path for path in candidates if is_complete(path)), None)

    def prune(self, keep: int, protect: Set[Path] = frozenset()) -> None:
        """Remove all but the newest `keep` checkpoints, the protected ones and the latest."""
        spared = {*protect, self.latest()}
        for step in self.steps()[:-keep]:
            if self.path_of(step) not in spared:
                self._remove(self.path_of(step))

    def _remove(self, path: Path) -> None:
        # Renamed first: a removal cut short must not leave something that looks like a checkpoint.
        with storage_errors(path):
            trash = path.with_name(f"{_TRASH}{os.getpid()}-{path.name}")
            path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed writers left behind; what living ones are writing stays."""
        for prefix in (_PARTIAL, _TRASH):
            for path in self.root.glob(f"{prefix}*"):
                pid = path.name.removeprefix(prefix).split("-")[0]
                if pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
                    shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
