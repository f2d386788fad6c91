"""One checkpoint: a folder of weights, training state and a manifest that vouches for them.

model.safetensors     weights, what inference loads
training.safetensors  tensors of the training state; absent in exports
manifest.json         format, version, config, metadata, skeleton of the training state, the
                      size and SHA-256 of each file above, and its own SHA-256
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from bit_transformer.checkpoint.atomic import (
    TRASH,
    remove_tree,
    storage_errors,
    sync_folder,
    temporary_sibling,
    write_synced,
)
from bit_transformer.checkpoint.migrate import CURRENT_VERSION, check_version, upgrade
from bit_transformer.checkpoint.state import flatten, storable, unflatten
from bit_transformer.errors import CheckpointCorruptError, CheckpointNotFoundError, StorageError

FORMAT = "bit-transformer checkpoint"
MANIFEST, MODEL, TRAINING = "manifest.json", "model.safetensors", "training.safetensors"

_verified: set[tuple[Any, ...]] = set()
"""Files that were found whole, as they were then."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    path: Path
    config: dict[str, Any]
    """Of the model, as the model wrote it."""
    weights: dict[str, Tensor]
    metadata: dict[str, Any]
    """Anything its writer wanted to tell: step, results, ..."""
    training_state: Any
    """What a run needs to go on, on the CPU; None when it was not asked for or not saved."""


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    training_state: Any = None,
    metadata: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> None:
    """Write a checkpoint folder; it appears whole or not at all.

    With `replace` a folder of that name stays until the new one is whole on disk. Raises
    `StorageError` when the disk is full, unwritable, or `folder` exists and is not to be replaced,
    and `TypeError` naming what cannot be saved.
    """
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": CURRENT_VERSION,
        "config": dict(config),
        "metadata": dict(metadata or {}),
        "training": None,
        "files": {},
    }
    files = {MODEL: {name: storable(tensor, name) for name, tensor in weights.items()}}
    if training_state is not None:
        files[TRAINING], manifest["training"] = flatten(training_state)
    with storage_errors(folder):
        if folder.exists() and not (replace and folder.is_dir()):
            raise StorageError(f"cannot write {folder}: it exists; choose another name")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_sibling(folder)
        try:
            _write_folder(partial, files, manifest)
            if replace:
                _install(partial, folder)
            else:
                partial.rename(folder)
        except BaseException:
            remove_tree(partial)
            raise
        sync_folder(folder.parent)


def _write_folder(
    folder: Path, files: dict[str, dict[str, Tensor]], manifest: dict[str, Any]
) -> None:
    folder.mkdir()
    for name, tensors in files.items():
        content = serialize_tensors(tensors)
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"size": len(content), "sha256": digest}
        write_synced(folder / name, content)
    # Sealed as it will be read back: JSON knows neither tuples nor keys that are no strings.
    manifest = json.loads(json.dumps(manifest))
    manifest["sha256"] = _seal(manifest)
    write_synced(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    sync_folder(folder)


def _install(partial: Path, folder: Path) -> None:
    """Rename into place; what stood there is parked first and comes back if that fails."""
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
    """SHA-256 of what the manifest says, its own seal aside; white space does not count."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder, upgraded to the current version; reads no weights.

    Raises `CheckpointNotFoundError`, `CheckpointVersionError` or `CheckpointCorruptError`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointNotFoundError(
            f"{folder} is no checkpoint: it has no {MANIFEST}; name a run or a checkpoint folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, f"cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _corrupt(path, f"is not the manifest of a {FORMAT}")
    # Before the seal: a newer version may be sealed in another way.
    check_version(manifest)
    if manifest.get("sha256") != _seal(manifest):
        raise _corrupt(path, "does not say what was written (its SHA-256 differs)")
    return _checked(upgrade(manifest), path)


def _checked(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("config", "metadata", "files"):
        if not isinstance(manifest.get(key), dict):
            raise _corrupt(path, f"has no {key!r}")
    needed = [MODEL] if manifest.get("training") is None else [MODEL, TRAINING]
    for name in needed:
        entry = manifest["files"].get(name)
        if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
            raise _corrupt(path, f"does not vouch for {name}")
    return manifest


def load_checkpoint(
    folder: Path, *, training: bool = False, device: torch.device | str = "cpu"
) -> Checkpoint:
    """Read and verify a checkpoint; the training state only when asked for.

    Raises `CheckpointNotFoundError`, `CheckpointVersionError`, or `CheckpointCorruptError` naming
    the file that is missing, truncated or not the one that was written.
    """
    manifest = read_manifest(folder)
    state = None
    if training and manifest.get("training") is not None:
        tensors = _read_tensors(folder / TRAINING, manifest["files"][TRAINING])
        state = unflatten(tensors, manifest["training"])
    weights = _read_tensors(folder / MODEL, manifest["files"][MODEL])
    return Checkpoint(
        path=folder,
        config=manifest["config"],
        weights={name: tensor.to(device) for name, tensor in weights.items()},
        metadata=manifest["metadata"],
        training_state=state,
    )


def is_complete(folder: Path) -> bool:
    """Whether the manifest can be read and all its files have their sizes; nothing else is read.

    A checkpoint of a newer version raises `CheckpointVersionError`: it is no damaged one to skip.
    """
    try:
        files = read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (CheckpointCorruptError, CheckpointNotFoundError, OSError):
        return False


def verify(folder: Path, *, training: bool = False) -> None:
    """Read every byte of the weights, and with `training` of the training state, and compare.

    What was verified once is not read again as long as the file stays the same. Raises what
    `load_checkpoint` does.
    """
    files = read_manifest(folder)["files"]
    for name in (MODEL, TRAINING) if training else (MODEL,):
        if name in files:
            _verify_file(folder / name, files[name])


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
    if now.st_size != entry["size"]:
        raise _corrupt(path, f"has {now.st_size} bytes, {entry['size']} were written")
    if digest != entry["sha256"]:
        raise _corrupt(path, "is not the file that was written (its SHA-256 differs)")
    _verified.add(mark)


def _read_tensors(path: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _corrupt(path, f"cannot be read ({error.strerror})") from error
    if len(content) != entry["size"]:
        raise _corrupt(path, f"has {len(content)} bytes, {entry['size']} were written")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise _corrupt(path, "is not the file that was written (its SHA-256 differs)")
    try:
        return parse_tensors(content)
    except SafetensorError as error:
        raise _corrupt(path, f"is no safetensors file ({error})") from error


def _corrupt(path: Path, what: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{path} {what}; use another checkpoint of the run")
