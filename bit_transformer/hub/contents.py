"""The files of a checkpoint or a run in a repository, and back.

manifest.json model.safetensors [training.safetensors]   a checkpoint folder
config.json tokenizer_config.json ... .py                the files that transformers reads
run/config.json run/metrics.jsonl run/report.json        the run of the checkpoint
README.md                                                the model card
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bit_transformer.atomic import (
    atomic_write_text,
    remove_tree,
    storage_errors,
    temporary_sibling,
)
from bit_transformer.checkpoint.format import (
    MANIFEST,
    MODEL,
    TRAINING,
    is_complete,
    load_checkpoint,
    read_manifest,
    save_checkpoint,
)
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.checkpoint.rotation import POINTER, CheckpointFolder
from bit_transformer.errors import CheckpointCorruptError, StorageError, UnsupportedCombination
from bit_transformer.hub.card import model_card
from bit_transformer.training.run_folder import CARRIED, RunFolder
from bit_transformer.transformers_adapter.export import FILES, transformers_files

CARD = "README.md"
_RUN_FILES = ("config.json", "metrics.jsonl", "report.json")
OWN_FILES = {MANIFEST, MODEL, TRAINING, CARD, *FILES, *(f"{CARRIED}/{name}" for name in _RUN_FILES)}
"""Paths that this project writes into a repository. Other files there are never changed."""


def stage(source: Path, folder: Path, *, training: bool, repository: str) -> dict[str, Path]:
    """Fill a new folder with the files for a repository; return them by their path in it.

    `source` is a run folder or a checkpoint folder. Large files are hard links, so they keep their
    content if the run removes the checkpoint meanwhile. Raises `CheckpointNotFoundError`,
    `CheckpointCorruptError`, `StorageError`.
    """
    checkpoint = locate_checkpoint(source)
    run = _run_of(checkpoint)
    stage_checkpoint(checkpoint, folder, training=training)
    manifest = read_manifest(folder)
    texts: dict[str, str] = {}
    # transformers cannot read every patch size; the card then says so.
    with suppress(UnsupportedCombination):
        texts = transformers_files(manifest["config"])
    if run is not None:
        with storage_errors(folder):
            (folder / CARRIED).mkdir()
            _copy(_RUN_FILES, run.path, folder / CARRIED)
    texts[CARD] = model_card(folder, manifest, run, repository, for_transformers=bool(texts))
    for name, text in texts.items():
        atomic_write_text(folder / name, text)
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def _run_of(checkpoint: Path) -> RunFolder | None:
    """Return the run whose records lie in the checkpoint, or the run that it is part of."""
    parent = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None
    for folder in (checkpoint / CARRIED, parent):
        if folder is not None and RunFolder(folder).exists():
            return RunFolder(folder)
    return None


def stage_checkpoint(checkpoint: Path, folder: Path, *, training: bool) -> None:
    """Link a checkpoint into a new folder; without `training`, only its weights."""
    resumable = read_manifest(checkpoint).get("training") is not None
    if resumable and not (training and (checkpoint / TRAINING).is_file()):
        whole = load_checkpoint(checkpoint)
        save_checkpoint(
            folder,
            weights=whole.weights,
            config=whole.config,
            metadata=whole.metadata,
            objective=whole.objective,
        )
        return
    with storage_errors(folder):
        folder.mkdir(parents=True)
        # Only these names are used: a downloaded manifest may list any path, even one outside.
        for name in (MANIFEST, MODEL, *([TRAINING] if resumable else ())):
            _link(checkpoint / name, folder / name)


def unpack(snapshot: Path, out: Path, *, training: bool) -> Path:
    """Make a new folder from the files of a repository, completely or not at all.

    It is a run folder, or a checkpoint folder if the repository holds no records of a run. Raises
    `StorageError` if `out` exists, and `CheckpointCorruptError` if files are missing or damaged.
    """
    with storage_errors(out):
        if out.exists():
            raise StorageError(f"cannot write {out}: it exists; choose another name")
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_sibling(out)
        try:
            _unpack(snapshot, partial, training=training)
            partial.rename(out)
        except BaseException:
            remove_tree(partial)
            raise
    return out


def _unpack(snapshot: Path, partial: Path, *, training: bool) -> None:
    carried = snapshot / CARRIED
    checkpoint = partial
    if RunFolder(carried).exists():
        partial.mkdir()
        _copy(_RUN_FILES, carried, partial)
        checkpoints = CheckpointFolder(partial / "checkpoints")
        checkpoint = checkpoints.path_of(step_of(read_manifest(snapshot)))
        checkpoints.root.mkdir()
        atomic_write_text(checkpoints.root / POINTER, checkpoint.name + "\n")
    stage_checkpoint(snapshot, checkpoint, training=training)
    _copy((*FILES, CARD), snapshot, checkpoint)
    if not is_complete(checkpoint):
        raise CheckpointCorruptError(
            "the checkpoint on the hub is incomplete: a file is missing or has another size than "
            "its manifest says; upload it again, or name another revision"
        )


def step_of(manifest: Mapping[str, Any]) -> int:
    """Return the training step of a checkpoint, or 0 if it records none."""
    step = manifest["metadata"].get("step")
    return step if isinstance(step, int) and step > 0 else 0


def _copy(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it to another file system. These files never change in place."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
