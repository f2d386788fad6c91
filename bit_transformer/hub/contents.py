"""The files of a checkpoint or a run as they lie in a repository, and back.

manifest.json model.safetensors [training.safetensors]   a checkpoint folder
config.json tokenizer_config.json ... .py                what transformers reads
run/config.json run/metrics.jsonl run/report.json        the run it comes from
README.md                                                the model card
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bit_transformer.checkpoint.atomic import (
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
_OF_THE_RUN = ("config.json", "metrics.jsonl", "report.json")
OURS = {MANIFEST, MODEL, TRAINING, CARD, *FILES, *(f"{CARRIED}/{name}" for name in _OF_THE_RUN)}
"""Every path that this project writes into a repository; others are left alone."""


def stage(source: Path, folder: Path, *, training: bool, repository: str) -> dict[str, Path]:
    """Fill a new folder with what goes into a repository; the files by their path in it.

    `source` is a run folder or a checkpoint folder. What is big is linked, not copied, and stays
    as it is whatever a run does to its checkpoints meanwhile. Raises `CheckpointNotFoundError`,
    `CheckpointCorruptError`, `StorageError`.
    """
    checkpoint = locate_checkpoint(source)
    run = _run_of(checkpoint)
    stage_checkpoint(checkpoint, folder, training=training)
    manifest = read_manifest(folder)
    texts: dict[str, str] = {}
    # Where transformers cannot read the model, the card says so.
    with suppress(UnsupportedCombination):
        texts = transformers_files(manifest["config"])
    if run is not None:
        with storage_errors(folder):
            (folder / CARRIED).mkdir()
            _copy(_OF_THE_RUN, run.path, folder / CARRIED)
    texts[CARD] = model_card(folder, manifest, run, repository, for_transformers=bool(texts))
    for name, text in texts.items():
        atomic_write_text(folder / name, text)
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def _run_of(checkpoint: Path) -> RunFolder | None:
    """The run that a checkpoint carries, or lies in."""
    lies_in = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None
    for folder in (checkpoint / CARRIED, lies_in):
        if folder is not None and RunFolder(folder).exists():
            return RunFolder(folder)
    return None


def stage_checkpoint(checkpoint: Path, folder: Path, *, training: bool) -> None:
    """A checkpoint in a new folder, linked; without `training`, its weights alone."""
    resumable = read_manifest(checkpoint).get("training") is not None
    if resumable and not (training and (checkpoint / TRAINING).is_file()):
        whole = load_checkpoint(checkpoint)
        save_checkpoint(folder, weights=whole.weights, config=whole.config, metadata=whole.metadata)
        return
    with storage_errors(folder):
        folder.mkdir(parents=True)
        # These names and no others: a manifest from elsewhere may name anything.
        for name in (MANIFEST, MODEL, *([TRAINING] if resumable else ())):
            _link(checkpoint / name, folder / name)


def unpack(snapshot: Path, out: Path, *, training: bool) -> Path:
    """Make a new run folder of a repository's files, or a checkpoint folder where they are of no
    run; it appears whole or not at all.

    Raises `StorageError` when `out` exists, `CheckpointCorruptError` for what is not whole.
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
        _copy(_OF_THE_RUN, carried, partial)
        checkpoints = CheckpointFolder(partial / "checkpoints")
        checkpoint = checkpoints.path_of(step_of(read_manifest(snapshot)))
        checkpoints.root.mkdir()
        atomic_write_text(checkpoints.root / POINTER, checkpoint.name + "\n")
    stage_checkpoint(snapshot, checkpoint, training=training)
    _copy((*FILES, CARD), snapshot, checkpoint)
    if not is_complete(checkpoint):
        raise CheckpointCorruptError(
            "what the hub holds is no whole checkpoint: a file is missing or has another size than "
            "its manifest says; upload it again, or name another revision"
        )


def step_of(manifest: Mapping[str, Any]) -> int:
    """The step of a checkpoint, 0 where it is of no run."""
    step = manifest["metadata"].get("step")
    return step if isinstance(step, int) and step > 0 else 0


def _copy(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _link(source: Path, target: Path) -> None:
    """One more name for a file that nobody changes in place; a copy on another file system."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
