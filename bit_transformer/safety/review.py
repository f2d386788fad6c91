"""A queue on disk of output that the gate refused, for a human to decide.

Each item is one JSON file, written atomically and protected by a checksum:

pending/ID.json     waits for a decision
approved/ID.json    approved; its content was released once
rejected/ID.json    rejected; its content is never released

A decision renames the file. The rename is atomic, so only one of two concurrent decisions succeeds.
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

from bit_transformer.atomic import atomic_write_json, storage_errors
from bit_transformer.bits.codec import bits_per_symbol, bits_to_bytes
from bit_transformer.errors import ReviewError

State = Literal["pending", "approved", "rejected"]
STATES: tuple[State, ...] = ("pending", "approved", "rejected")


@dataclass(frozen=True)
class ReviewItem:
    """Refused output, with the reasons."""

    prompt: UInt8[np.ndarray, " p"]
    """Bits of the prompt."""
    output: UInt8[np.ndarray, " n"]
    """The generated bits."""
    reasons: tuple[str, ...]
    """The reasons of the verdict."""
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    """The metrics behind the verdict, JSON-ready."""
    parity: bool = False
    """True if an even parity bit follows each byte."""
    identity: str = ""
    """Name in the queue, assigned by `ReviewQueue.put`."""
    created: str = ""
    """UTC time of `ReviewQueue.put`."""

    def as_bytes(self, bits: UInt8[np.ndarray, " n"]) -> bytes:
        """Return the bytes of the prompt or the output. An incomplete last byte is dropped."""
        width = bits_per_symbol(self.parity)
        return bits_to_bytes(bits[: len(bits) // width * width], parity=self.parity)


class ReviewQueue:
    """The review queue of one folder. Several processes may use it at once."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, item: ReviewItem) -> str:
        """Add a pending item and return its identity. Raises `StorageError` when it cannot be
        written; the queue is then unchanged."""
        now = datetime.now(UTC)
        identity = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        with storage_errors(self._folder):
            for state in STATES:
                (self._folder / state).mkdir(parents=True, exist_ok=True)
        created = now.isoformat(timespec="seconds")
        stored = dataclasses.replace(item, identity=identity, created=created)
        atomic_write_json(self._path(identity, "pending"), _with_checksum(_to_json(stored)))
        return identity

    def identities(self, state: State = "pending") -> list[str]:
        """Return the identities of all items in that state, oldest first."""
        return sorted(path.stem for path in (self._folder / state).glob("*.json"))

    def state_of(self, identity: str) -> State:
        """Return the state of an item. Raises `ReviewError` when there is no such item."""
        for state in STATES:
            if self._path(identity, state).is_file():
                return state
        raise ReviewError(
            f"there is no item {identity!r} in {self._folder}; list the items with `review list`"
        )

    def show(self, identity: str) -> ReviewItem:
        """Return an item. Raises `ReviewError` when it is missing or its file is damaged."""
        return _read(self._path(identity, self.state_of(identity)))

    def approve(self, identity: str) -> ReviewItem:
        """Release a pending item. Raises `ReviewError` when it is damaged or already decided."""
        return self._decide(identity, "approved")

    def reject(self, identity: str) -> ReviewItem:
        """Withhold a pending item for good. Errors are those of `approve`."""
        return self._decide(identity, "rejected")

    def _decide(self, identity: str, decision: State) -> ReviewItem:
        state = self.state_of(identity)
        if state != "pending":
            raise ReviewError(
                f"item {identity} was {state} before, and an item can only be decided once; see "
                "`review show`"
            )
        pending = self._path(identity, "pending")
        item = _read(pending)
        try:
            os.rename(pending, self._path(identity, decision))
        except FileNotFoundError as error:
            raise ReviewError(
                f"somebody else has just decided item {identity}; nothing was released here"
            ) from error
        return item

    def _path(self, identity: str, state: State) -> Path:
        if Path(identity).name != identity:
            raise ReviewError(
                f"{identity!r} is not a valid item name; list the items with `review list`"
            )
        return self._folder / state / f"{identity}.json"


def _to_json(item: ReviewItem) -> dict[str, Any]:
    return {
        "identity": item.identity,
        "created": item.created,
        "reasons": list(item.reasons),
        "parity": item.parity,
        "telemetry": dict(item.telemetry),
        "prompt": _pack(item.prompt),
        "output": _pack(item.output),
    }


def _pack(bits: UInt8[np.ndarray, " n"]) -> dict[str, Any]:
    return {"bits": len(bits), "base64": base64.b64encode(np.packbits(bits).tobytes()).decode()}


def _unpack(packed: Mapping[str, Any]) -> UInt8[np.ndarray, " n"]:
    values = np.frombuffer(base64.b64decode(packed["base64"], validate=True), np.uint8)
    return np.unpackbits(values, count=packed["bits"])


def _with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "sha256": _digest(content)}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> ReviewItem:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        checksum = stored.pop("sha256")
        if checksum != _digest(stored):
            raise ValueError("its checksum does not match")
        return ReviewItem(
            prompt=_unpack(stored["prompt"]),
            output=_unpack(stored["output"]),
            reasons=tuple(stored["reasons"]),
            parity=stored["parity"],
            telemetry=stored["telemetry"],
            identity=stored["identity"],
            created=stored["created"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReviewError(
            f"item {path.stem} cannot be read ({error}): its file is damaged and nothing was "
            f"released; remove {path.name} from the queue"
        ) from error
