"""One checkpoint: a folder of weights, training state and a manifest that vouches for them.

model.safetensors     weights, what inference loads
training.safetensors  tensors of the training state; absent in exports
manifest.json         format, version, config, metadata, skeleton of the training state, and the
                      size and SHA-256 of each file above
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from bit_transformer.checkpoint.atomic import atomic_write_json, storage_errors, sync_folder
from bit_transformer.checkpoint.migrate import CURRENT_VERSION, upgrade
from bit_transformer.checkpoint.state import flatten, unflatten
from bit_transformer.errors import CheckpointCorruptError, CheckpointNotFoundError, StorageError

FORMAT = "bit-transformer checkpoint"
MANIFEST, MODEL, TRAINING = "manifest.json", "model.safetensors", "training.safetensors"


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
    """What a run needs to go on; None when it was not asked for or not saved."""


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    training_state: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a new checkpoint folder; it appears whole or not at all.

    Raises `StorageError` when the disk is full, unwritable, or `folder` exists already.
    """
    if folder.exists():
        raise StorageError(f"cannot write {folder}: it exists; choose another name or remove it")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": CURRENT_VERSION,
        "config": dict(config),
        "metadata": dict(metadata or {}),
        "training": None,
        "files": {},
    }
    files = {MODEL: {name: _plain(tensor) for name, tensor in weights.items()}}
    if training_state is not None:
        files[TRAINING], manifest["training"] = flatten(training_state)
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.parent / f".tmp-{os.getpid()}-{folder.name}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write_folder(partial, files, manifest)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(folder.parent)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()


def _write_folder(
    folder: Path, files: dict[str, dict[str, Tensor]], manifest: dict[str, Any]
) -> None:
    folder.mkdir()
    for name, tensors in files.items():
        content = serialize_tensors({key: tensor.cpu() for key, tensor in tensors.items()})
        manifest["files"][name] = {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    atomic_write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder, upgraded to the current version; reads no weights."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{folder} is no checkpoint: it has no {MANIFEST}; name a run or a checkpoint folder"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _corrupt(path, f"cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _corrupt(path, f"is not the manifest of a {FORMAT}")
    manifest = upgrade(manifest)
    for key, kind in (("config", dict), ("metadata", dict), ("files", dict)):
        if not isinstance(manifest.get(key), kind):
            raise _corrupt(path, f"has no {key!r}")
    return manifest


def load_checkpoint(
    folder: Path, *, training: bool = False, device: torch.device | str = "cpu"
) -> Checkpoint:
    """Read and verify a checkpoint; the training state only when asked for.

    Raises `CheckpointNotFoundError`, `CheckpointVersionError`, or `CheckpointCorruptError` naming
    the
    file that is missing, truncated or not the one that was written.
    """
    manifest = read_manifest(folder)
    state = None
    if training and manifest.get("training") is not None:
        tensors = _read_tensors(folder, TRAINING, manifest)
        state = unflatten(tensors, manifest["training"])
    weights = _read_tensors(folder, MODEL, manifest)
    return Checkpoint(
        path=folder,
        config=manifest["config"],
        weights={name: tensor.to(device) for name, tensor in weights.items()},
        metadata=manifest["metadata"],
        training_state=state,
    )


def is_complete(folder: Path) -> bool:
    """Whether the manifest can be read and all its files have their sizes; hashes are not
    checked."""
    try:
        files = read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (CheckpointCorruptError, CheckpointNotFoundError, OSError, KeyError, TypeError):
        return False


def _read_tensors(folder: Path, name: str, manifest: dict[str, Any]) -> dict[str, Tensor]:
    path, entry = folder / name, manifest["files"].get(name)
    if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
        raise _corrupt(folder / MANIFEST, f"does not vouch for {name}")
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
