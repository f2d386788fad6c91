"""One checkpoint: a folder of weights, training state and a manifest that vouches for them.

model.safetensors     weights, which inference loads
training.safetensors  tensors of the training state; absent in exports
manifest.json         format, version, network, objective, metadata, skeleton of the training state,
                      size, SHA-256 and content of each file above, and its own SHA-256

A manifest may list any number of files with weights and with training state. `CheckpointWriter` is
the seam: the writer here writes one file of each, and one that runs on many ranks may write more.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from bit_transformer.atomic import (
    TRASH,
    remove_tree,
    storage_errors,
    sync_folder,
    temporary_sibling,
    write_synced,
)
from bit_transformer.checkpoint.migrate import (
    CURRENT_VERSION,
    DEFAULT_OBJECTIVE,
    check_version,
    current_name,
    upgrade,
)
from bit_transformer.checkpoint.state import flatten, storable, unflatten
from bit_transformer.errors import CheckpointCorruptError, CheckpointNotFoundError, StorageError

FORMAT = "bit-transformer checkpoint"
MANIFEST, MODEL, TRAINING = "manifest.json", "model.safetensors", "training.safetensors"
Content = Literal["weights", "training"]

_verified: set[tuple[Any, ...]] = set()
"""Files whose SHA-256 was right, with the size and time they had then."""


@runtime_checkable
class CheckpointWriter(Protocol):
    """Writes the tensors of a checkpoint."""

    def write(
        self, folder: Path, weights: Mapping[str, Tensor], training: Mapping[str, Tensor] | None
    ) -> dict[str, Any]:
        """Write files into an existing folder and return their manifest entries by file name: size
        in bytes, SHA-256, and whether the file `holds` weights or training state."""
        ...


class SingleWriter:
    """One process writes one file of weights and one of training state."""

    def write(
        self, folder: Path, weights: Mapping[str, Tensor], training: Mapping[str, Tensor] | None
    ) -> dict[str, Any]:
        """See `CheckpointWriter`."""
        copies = {name: storable(tensor, name) for name, tensor in weights.items()}
        entries = {MODEL: _write_tensors(folder / MODEL, copies, "weights")}
        if training is not None:
            entries[TRAINING] = _write_tensors(folder / TRAINING, training, "training")
        return entries


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], holds: Content) -> dict[str, Any]:
    content = serialize_tensors(dict(tensors))
    write_synced(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return {"size": len(content), "sha256": digest, "holds": holds}


SINGLE_WRITER = SingleWriter()


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint folder."""

    path: Path
    config: dict[str, Any]
    """The network, as `NetworkSpec.to_dict` wrote it."""
    weights: dict[str, Tensor]
    metadata: dict[str, Any]
    """JSON values of the writer: step, results, ..."""
    training_state: Any
    """The state from which a run resumes, on the CPU. None where it was not asked for or saved."""
    objective: str = DEFAULT_OBJECTIVE
    """Name of the objective that the weights were trained for."""


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    training_state: Any = None,
    metadata: Mapping[str, Any] | None = None,
    objective: str = DEFAULT_OBJECTIVE,
    replace: bool = False,
    writer: CheckpointWriter = SINGLE_WRITER,
) -> None:
    """Write a checkpoint folder. It appears whole or not at all.

    With `replace`, a folder of that name stays until the new one is whole on disk. Raises
    `StorageError` when the disk is full or unwritable, or when `folder` exists and is not to be
    replaced, and `TypeError` naming a value that cannot be saved.
    """
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": CURRENT_VERSION,
        "config": dict(config),
        "objective": objective,
        "metadata": dict(metadata or {}),
        "training": None,
    }
    tensors = None
    if training_state is not None:
        tensors, manifest["training"] = flatten(training_state)
    with storage_errors(folder):
        if folder.exists() and not (replace and folder.is_dir()):
            raise StorageError(f"cannot write {folder}: it exists; choose another name")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_sibling(folder)
        try:
            partial.mkdir()
            manifest["files"] = writer.write(partial, weights, tensors)
            _write_manifest(partial, manifest)
            if replace:
                _install(partial, folder)
            else:
                partial.rename(folder)
        except BaseException:
            remove_tree(partial)
            raise
        sync_folder(folder.parent)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    # A reader hashes the manifest after parsing it. Hash the same form here: JSON turns tuples into
    # lists and keys into strings.
    manifest = json.loads(json.dumps(manifest))
    manifest["sha256"] = _seal(manifest)
    write_synced(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    sync_folder(folder)


def _install(partial: Path, folder: Path) -> None:
    """Rename into place. The previous folder is parked first and restored if that fails."""
    trash = temporary_sibling(folder, TRASH)
    with suppress(FileNotFoundError):
        folder.rename(trash)
    try:
        partial.rename(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            trash.rename(folder)
        raise
    remove_tree(trash)


def _seal(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest's content without its own seal. White space does not count."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder, upgraded to the current version. Reads no weights.

    Raises `CheckpointNotFoundError`, `CheckpointVersionError` or `CheckpointCorruptError`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointNotFoundError(
            f"{folder} is not a checkpoint: {MANIFEST} is missing; name a run or checkpoint folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, f"cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _corrupt(path, f"is not the manifest of a {FORMAT}")
    # The version comes before the seal: a newer version may be sealed in another way.
    check_version(manifest)
    if manifest.get("sha256") != _seal(manifest):
        raise _corrupt(path, "has changed since it was written (its SHA-256 differs)")
    for key in ("config", "metadata", "files"):
        if not isinstance(manifest.get(key), dict):
            raise _corrupt(path, f"has no {key!r}")
    manifest = {"training": None, "objective": DEFAULT_OBJECTIVE} | upgrade(manifest)
    _check_files(manifest, path)
    return manifest


def _check_files(manifest: Mapping[str, Any], path: Path) -> None:
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or not {"size", "sha256", "holds"} <= entry.keys():
            raise _corrupt(path, f"has no complete entry for {name}")
        if Path(name).name != name:
            raise _corrupt(path, f"names {name!r}, which is not a file of this folder")
    if not files_of(manifest, "weights"):
        raise _corrupt(path, f"has no complete entry for {MODEL}")
    if manifest["training"] is not None and not files_of(manifest, "training"):
        raise _corrupt(path, f"has no complete entry for {TRAINING}")


def files_of(manifest: Mapping[str, Any], holds: Content) -> dict[str, dict[str, Any]]:
    """The manifest entries of the files with weights, or with training state, by file name."""
    files = manifest["files"].items()
    return {name: entry for name, entry in files if entry.get("holds") == holds}


def load_checkpoint(
    folder: Path, *, training: bool = False, device: torch.device | str = "cpu"
) -> Checkpoint:
    """Read and verify a checkpoint. The training state is read with `training` only.

    Raises `CheckpointNotFoundError`, `CheckpointVersionError`, or `CheckpointCorruptError` naming
    the file that is missing, truncated or changed.
    """
    manifest = read_manifest(folder)
    state = None
    if training and manifest["training"] is not None:
        tensors = _read_all(folder, manifest, "training")
        state = unflatten(tensors, manifest["training"])
    weights = _read_all(folder, manifest, "weights")
    return Checkpoint(
        path=folder,
        config=manifest["config"],
        weights={current_name(name): tensor.to(device) for name, tensor in weights.items()},
        metadata=manifest["metadata"],
        training_state=state,
        objective=manifest["objective"],
    )


def is_complete(folder: Path) -> bool:
    """Whether the manifest is readable and all its files have their sizes. Nothing else is read.

    A checkpoint of a newer version raises `CheckpointVersionError`: it is not a damaged one that
    may be skipped.
    """
    try:
        files = read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (CheckpointCorruptError, CheckpointNotFoundError, OSError):
        return False


def verify(folder: Path, *, training: bool = False) -> None:
    """Read every byte of the weights, and with `training` of the training state, and compare their
    SHA-256.

    A verified file is not read again as long as it stays the same. Raises what `load_checkpoint`
    does.
    """
    manifest = read_manifest(folder)
    files = files_of(manifest, "weights")
    if training:
        files = files | files_of(manifest, "training")
    for name, entry in files.items():
        _verify_file(folder / name, entry)


def _verify_file(path: Path, entry: dict[str, Any]) -> None:
    try:
        now = path.stat()
        mark = (str(path.resolve()), now.st_size, now.st_mtime_ns, now.st_ino, entry["sha256"])
        if mark in _verified:
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _corrupt(path, f"cannot be read ({error.strerror})") from error
    _compare(path, entry, now.st_size, digest)
    _verified.add(mark)


def _read_all(folder: Path, manifest: Mapping[str, Any], holds: Content) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, entry in files_of(manifest, holds).items():
        tensors |= _read_tensors(folder / name, entry)
    return tensors


def _read_tensors(path: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _corrupt(path, f"cannot be read ({error.strerror})") from error
    _compare(path, entry, len(content), hashlib.sha256(content).hexdigest())
    try:
        return parse_tensors(content)
    except SafetensorError as error:
        raise _corrupt(path, f"is not a safetensors file ({error})") from error


def _compare(path: Path, entry: dict[str, Any], size: int, digest: str) -> None:
    if size != entry["size"]:
        raise _corrupt(path, f"has {size} bytes, {entry['size']} were written")
    if digest != entry["sha256"]:
        raise _corrupt(path, "has changed since it was written (its SHA-256 differs)")


def _corrupt(path: Path, what: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{path} {what}; use another checkpoint of the run")
