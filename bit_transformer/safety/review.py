"""A queue of refused or doubtful output on disk, for a human to decide.

Each item is one JSON file, written atomically and sealed with a checksum:

pending/ID.json     waiting for a decision
approved/ID.json    decided, its content released, once
rejected/ID.json    decided, never released

A decision moves the file by a rename, which the file system does once: of two deciders one
succeeds.
"""

import base64
import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from bit_transformer.bits.codec import bits_per_symbol, bits_to_bytes
from bit_transformer.checkpoint.atomic import atomic_write_json, storage_errors
from bit_transformer.errors import ReviewError

State = Literal["pending", "approved", "rejected"]
STATES: tuple[State, ...] = ("pending", "approved", "rejected")


@dataclass(frozen=True)
class ReviewItem:
    """Output that was held back, and why."""

    prompt: UInt8[np.ndarray, " p"]
    """Bits of the prompt."""
    output: UInt8[np.ndarray, " n"]
    """The generated bits."""
    reasons: tuple[str, ...]
    """The verdict's."""
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    """Readings that led to it, JSON-ready."""
    parity: bool = False
    """The bits carry an even parity bit after each byte."""
    identity: str = ""
    """Name in the queue, given when it is put there."""
    created: str = ""
    """UTC time at which it was put there."""

    def as_bytes(self, bits: UInt8[np.ndarray, " n"]) -> bytes:
        """The whole bytes of prompt or output; bits after the last one are left out."""
        width = bits_per_symbol(self.parity)
        return bits_to_bytes(bits[: len(bits) // width * width], parity=self.parity)


class ReviewQueue:
    """The items of one folder. Several processes may use it at once."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, item: ReviewItem) -> str:
        """Add an item to those pending; returns its identity. `StorageError` when it cannot be
        written, and then nothing is."""
        now = datetime.now(UTC)
        identity = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        with storage_errors(self._folder):
            for state in STATES:
                (self._folder / state).mkdir(parents=True, exist_ok=True)
        created = now.isoformat(timespec="seconds")
        stored = dataclasses.replace(item, identity=identity, created=created)
        atomic_write_json(self._path(identity, "pending"), _sealed(_to_json(stored)))
        return identity

    def identities(self, state: State = "pending") -> list[str]:
        """What lies in that state, oldest first."""
        return sorted(path.stem for path in (self._folder / state).glob("*.json"))

    def state_of(self, identity: str) -> State:
        """Where an item is; `ReviewError` when there is none of that name."""
        for state in STATES:
            if self._path(identity, state).is_file():
                return state
        raise ReviewError(
            f"there is no item {identity!r} in {self._folder}; `review list` shows what there is"
        )

    def show(self, identity: str) -> ReviewItem:
        """An item to look at. `ReviewError` when it is not there or its file is damaged."""
        return _read(self._path(identity, self.state_of(identity)))

    def approve(self, identity: str) -> ReviewItem:
        """Release a pending item, once; `ReviewError` when it was decided before or is damaged."""
        return self._decide(identity, "approved")

    def reject(self, identity: str) -> ReviewItem:
        """Hold a pending item back for good; errors of `approve`."""
        return self._decide(identity, "rejected")

    def _decide(self, identity: str, decision: State) -> ReviewItem:
        state = self.state_of(identity)
        if state != "pending":
            raise ReviewError(
                f"item {identity} was {state} before and an item is decided once; "
                "`review show` shows it"
            )
        pending = self._path(identity, "pending")
        item = _read(pending)
        try:
            os.rename(pending, self._path(identity, decision))
        except FileNotFoundError as error:
            raise ReviewError(
                f"item {identity} has just been decided by somebody else; nothing was released here"
            ) from error
        return item

    def _path(self, identity: str, state: State) -> Path:
        if Path(identity).name != identity:
            raise ReviewError(f"{identity!r} is no name of an item; `review list` shows them")
        return self._folder / state / f"{identity}.json"


def _to_json(item: ReviewItem) -> dict[str, Any]:
    return {
        "identity": item.identity,
        "created": item.created,
        "reasons": list(item.reasons),
        "parity": item.parity,
        "telemetry": dict(item.telemetry),
        "prompt": _packed(item.prompt),
        "output": _packed(item.output),
    }


def _packed(bits: UInt8[np.ndarray, " n"]) -> dict[str, Any]:
    return {"bits": len(bits), "base64": base64.b64encode(np.packbits(bits).tobytes()).decode()}


def _unpacked(packed: Mapping[str, Any]) -> UInt8[np.ndarray, " n"]:
    values = np.frombuffer(base64.b64decode(packed["base64"], validate=True), np.uint8)
    return np.unpackbits(values, count=packed["bits"])


def _sealed(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "sha256": _digest(content)}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> ReviewItem:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        seal = stored.pop("sha256")
        if seal != _digest(stored):
            raise ValueError("its checksum does not fit")
        return ReviewItem(
            prompt=_unpacked(stored["prompt"]),
            output=_unpacked(stored["output"]),
            reasons=tuple(stored["reasons"]),
            parity=stored["parity"],
            telemetry=stored["telemetry"],
            identity=stored["identity"],
            created=stored["created"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReviewError(
            f"item {path.stem} cannot be read ({error}): its file is damaged, nothing was "
            f"released; remove {path.name} from the queue"
        ) from error
