"""A mixer in a file: what it has learned, and nothing that compiled code would trust blindly.

The file is a safetensors file. It holds the bytes that the mixer has read and the tables that it
has learned. Everything else, such as words, lines and matches, follows from the bytes, so `load`
reads the bytes again. docs/formats/mixer.md describes the file.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialized

from bit_transformer.atomic import atomic_write_bytes, leftovers
from bit_transformer.compression.bit_history import BUCKET, COUNTS, SLOTS
from bit_transformer.compression.config import MAX_TABLE_BITS, MIN_TABLE_BITS
from bit_transformer.compression.contexts import CONTEXTS
from bit_transformer.compression.mixer import MAX_HISTORY_BYTES, Mixer, new_mixer
from bit_transformer.errors import ConfigError, MixerFileError, SourceError, StorageError

MIXER = "mixer.safetensors"
"""Name of the mixer's file in the folder of a run or of a model."""
DEFAULT_TABLE_BITS = 20
"""The table of a mixer that is saved takes 64 MiB, in memory and in the file."""
FORMAT, VERSION = "bit-transformer mixer", 1
_TABLES = (
    *("buckets", "count_maps", "run_maps", "order_0", "match_maps", "weights", "final_weights"),
    *("apms", "clock"),
)
_MAX_CLOCK = 1 << 62
"""The clock counts bits, and it must stay an int64 as it goes on."""
_HEADER = ("format", "version", "profile", "table_bits", "network", "sha256")


def mixer_path(folder: Path) -> Path:
    """Return where the mixer of a run folder, of a checkpoint in it, or of an exported model is."""
    inside_run = folder.parent.name == "checkpoints" and folder.name.startswith("step-")
    return (folder.parent.parent if inside_run else folder) / MIXER


Stamp = tuple[int, int] | None
"""Time and inode of a file, which tell it from a later one at the same path; None without one."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a mixer's file. Raises `StorageError` if its folder cannot be written."""
    if not os.access(path.parent, os.W_OK):
        raise StorageError(
            f"cannot write {path}: the folder is read-only; copy the run to a folder of yours"
        )
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


def save_warmed(path: Path, mixer: Mixer, since: Stamp, *, append: bool) -> None:
    """Save a mixer that has learned. With `append` it has gone on from the file with the stamp
    `since`.

    Raises `MixerFileError` if it has gone on and another process has written the file since then,
    because what that process has learned would be lost.
    """
    if append and stamp_of(path) != since:
        raise MixerFileError(
            f"{path} was written by another process while this one learned, so nothing is saved; "
            "run the command again"
        )
    save_mixer(path, mixer)


def save_mixer(path: str | Path, mixer: Mixer) -> None:
    """Write a mixer that is between two bytes to a file, which appears whole or not at all.

    Raises `MixerFileError` for a mixer inside a byte, and `StorageError` when the disk fails.
    """
    if mixer.lanes.bit_index[0]:
        raise MixerFileError(
            f"a mixer is saved between bytes, this one has read {mixer.lanes.bit_index[0]} bits of "
            "a byte; let it read the rest of the byte first"
        )
    tensors = {name: np.ascontiguousarray(getattr(mixer.tables, name)) for name in _TABLES}
    tensors["history"] = mixer.tables.history[: int(mixer.lanes.position[0])].copy()
    tensors["places"] = mixer.lanes.buckets[0].copy()
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "profile": str(mixer.profile),
        "table_bits": str(mixer.table_bits),
        "network": json.dumps(mixer.network),
    }
    content = serialized(tensors, header | {"sha256": _digest(header, tensors)})
    for left in leftovers(Path(path).parent):
        # A killed process has left its unfinished file, which is as large as a whole one.
        if left.name.endswith(Path(path).name):
            left.unlink(missing_ok=True)
    atomic_write_bytes(Path(path), content)


def load_mixer(path: str | Path) -> Mixer:
    """Return the mixer that `save_mixer` wrote. It predicts exactly what the saved one would.

    Raises `SourceError` when the file cannot be read, and `MixerFileError` when it is damaged or of
    another version.
    """
    path = Path(path)
    try:
        with safe_open(path, "numpy") as file:
            header = _checked_header(path, file.metadata() or {})
            mixer = Mixer(
                profile=int(header["profile"]),
                table_bits=int(header["table_bits"]),
                network=json.loads(header["network"]),
            )
            tensors = _read(path, file, mixer)
    except OSError as error:
        raise SourceError(
            f"cannot read {path}: {error.strerror or error}; name a file that `warm` has written"
        ) from error
    except (SafetensorError, TypeError) as error:
        raise _unusable(path, f"is not a whole safetensors file ({error})") from error
    _check_values(path, tensors, header)
    history = tensors.pop("history")
    mixer.restore(tensors, history)
    return mixer


def mixer_to_warm(
    path: Path, first: UInt8[np.ndarray, " n"], *, append: bool, table_bits: int | None
) -> Mixer:
    """Return the mixer that is to learn data which begins with `first`: the saved one if it is to
    `append` and there is one, otherwise an untrained one.

    Raises `ConfigError` if the saved one has another table, and the errors of `load_mixer`.
    """
    if not (append and path.exists()):
        bits = DEFAULT_TABLE_BITS if table_bits is None else table_bits
        return new_mixer(first, table_bits=bits, network=True)
    mixer = load_mixer(path)
    if not mixer.network:
        raise _unusable(path, "has no input for a network")
    if table_bits not in (None, mixer.table_bits):
        raise ConfigError(
            f"table_bits of the saved mixer is {mixer.table_bits}, got {table_bits}; leave it out, "
            "or begin a new mixer without append"
        )
    return mixer


def _checked_header(path: Path, header: Mapping[str, str]) -> dict[str, str]:
    """Return the header; raise `MixerFileError` if a value is missing or outside its limits."""
    if header.get("format") != FORMAT:
        raise _unusable(path, "is not a saved mixer")
    if header.get("version") != str(VERSION):
        version = header.get("version")
        raise _unusable(path, f"has version {version!r} of the format, and {VERSION} is expected")
    allowed = {
        "profile": [str(profile) for profile in range(len(CONTEXTS))],
        "table_bits": [str(bits) for bits in range(MIN_TABLE_BITS, MAX_TABLE_BITS + 1)],
        "network": ["true", "false"],
    }
    for name, values in allowed.items():
        if header.get(name) not in values:
            raise _unusable(path, f"has {name} {header.get(name)!r}, which is outside its limits")
    if header.keys() != set(_HEADER):
        raise _unusable(path, f"has other metadata than {', '.join(_HEADER)}")
    return dict(header)


def _read(path: Path, file: Any, mixer: Mixer) -> dict[str, np.ndarray]:
    """Return the tensors of an open file whose names, types and shapes are those of `mixer`.

    They are compared with the header of the file first, so that a tensor of another size is never
    read.
    """
    expected = {name: getattr(mixer.tables, name) for name in _TABLES}
    expected["places"] = mixer.lanes.buckets[0]
    names = set(file.keys())
    if names != {*expected, "history"}:
        raise _unusable(path, f"has other tensors than {', '.join(sorted(expected))} and history")
    for name in names:
        stored = file.get_slice(name)
        like = expected.get(name)
        shape = tuple(stored.get_shape())
        if like is None:
            like = mixer.tables.history
            fits = len(shape) == 1 and shape[0] <= MAX_HISTORY_BYTES
        else:
            fits = shape == like.shape
        if not fits or stored.get_dtype() != _type_name(like.dtype):
            raise _unusable(path, f"has {name} of type {stored.get_dtype()} and shape {shape}")
    return {name: file.get_tensor(name) for name in names}


def _type_name(dtype: np.dtype[Any]) -> str:
    """Return the name that safetensors has for a type of integers."""
    return f"{dtype.kind.upper()}{8 * dtype.itemsize}"


def _check_values(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Raise `MixerFileError` unless the content is what was written, and all values that become
    indices or divisors are within their limits."""
    written = {name: value for name, value in header.items() if name != "sha256"}
    if _digest(written, tensors) != header["sha256"]:
        raise _unusable(path, "has changed since it was written (its SHA-256 differs)")
    counts = tensors["buckets"].reshape(-1, BUCKET)[:, 1:SLOTS]
    places = tensors["places"]
    if (
        counts.max() >= COUNTS
        or not 0 <= tensors["clock"][0] <= _MAX_CLOCK
        or (places % BUCKET).any()
        or places.min() < 0
        or places.max() >= tensors["buckets"].size
    ):
        raise _unusable(path, "has counts or places outside their limits")


def _digest(header: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the header and of all tensors, in the order of their names."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _unusable(path: Path, what: str) -> MixerFileError:
    return MixerFileError(f"{path} {what}; remove it, and make it again with `warm`")
