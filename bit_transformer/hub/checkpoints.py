"""Documented names of the earlier system: a model in memory to the hub and back."""

import tempfile
from pathlib import Path
from typing import Any

from bit_transformer.errors import HubNotFoundError
from bit_transformer.hub.client import Progress, remember_token
from bit_transformer.hub.transfer import Pushed, pull, push, who_am_i
from bit_transformer.lm import BitTransformerLM


def hf_login(token: str | None = None) -> str:
    """Check a token with the hub and return the name of its user.

    A `token` passed here is used by later calls in this process. It is kept in memory only. Raises
    `HubAccessError` if the token is missing or refused.
    """
    name = who_am_i(token)
    if token is not None:
        remember_token(token)
    return name


def save_checkpoint(
    model: BitTransformerLM,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    progress: Progress | None = None,
    **metadata: Any,
) -> Pushed:
    """Upload a model with its card and JSON `metadata`; other arguments and errors as in `push`."""
    with tempfile.TemporaryDirectory(prefix="bit-transformer-") as place:
        folder = model.save_pretrained(Path(place) / "model", **metadata)
        return push(folder, repo_id, token=token, private=private, progress=progress)


def download_checkpoint(
    dest_path: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    progress: Progress | None = None,
) -> Path | None:
    """Download a checkpoint without its training state to `dest_path`, and return that path.

    Returns None if the hub has no such checkpoint. Other errors are those of `pull`.
    """
    try:
        return pull(repo_id, dest_path, token=token, training=False, progress=progress)
    except HubNotFoundError:
        return None
