"""Checkpoints and runs to the hub and back."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.checkpoint.atomic import PARTIAL, leftovers, remove_tree, temporary_sibling
from bit_transformer.checkpoint.format import MANIFEST, MODEL, TRAINING, read_manifest
from bit_transformer.checkpoint.locate import register_fetch
from bit_transformer.errors import (
    HubNotFoundError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
)
from bit_transformer.hub.client import HubClient, Progress, RemoteFiles
from bit_transformer.hub.contents import OURS, stage, step_of, unpack
from bit_transformer.hub.identity import HubId, parse_hub_id
from bit_transformer.training.run_folder import CARRIED

_STAGED = "push"
_FIRST_CONTACT = (0.5,)
"""Waits for a name that may be a misspelt path as well: nobody wants to wait long for that."""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    repository: str
    """As in user/name."""
    url: str
    """Address of the commit."""
    files: int
    """Files in it."""
    bytes: int
    """Bytes of these files; what the hub had already was not sent."""


def push(
    source: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    training: bool = False,
    private: bool = True,
    message: str | None = None,
    progress: Progress | None = None,
) -> Pushed:
    """Upload the newest checkpoint of a run folder, or a checkpoint folder, as one commit.

    With it go a model card of the run's measured figures, the run's settings and metrics, and what
    `transformers` needs to load it. `training` adds the state that going on with the training
    needs, about twice the weights again. The repository is made, `private` or not, when it is not
    there. Without `token`, that of HF_TOKEN or of the hub's token file is used. `progress(done,
    total, file)` is told in bytes, after each file.

    Raises `ConfigError` for a malformed `repo_id`, `CheckpointError` for what cannot be read,
    `HubAccessError` for a missing or refused token, `HubUnreachableError` after a bounded number of
    attempts; sending again sends only what is missing.
    """
    repository = HubId.parse(repo_id).repository
    client = HubClient(token)
    source = Path(source)
    with _staging(source) as place:
        files = stage(source, place, training=training, repository=repository)
        client.create(repository, private=private)
        there = client.files(repository).sizes
        url = client.commit(
            repository,
            files,
            remove=sorted(OURS & there.keys() - files.keys()),
            message=message or "Upload a checkpoint of BitTransformerLM",
            progress=progress,
        )
        size = sum(path.stat().st_size for path in files.values())
        return Pushed(repository, url, len(files), size)


@contextmanager
def _staging(source: Path) -> Iterator[Path]:
    """A new folder's path beside the source, where what is big can be linked; where nothing can be
    written, anywhere else. What killed processes have left there goes."""
    near = source.resolve().parent
    if not os.access(near, os.W_OK):
        with tempfile.TemporaryDirectory(prefix="bit-transformer-") as place:
            yield Path(place) / _STAGED
        return
    own = f"{PARTIAL}{os.getpid()}-"
    for left in leftovers(near):
        if left.name.endswith(f"-{_STAGED}") and not left.name.startswith(own):
            remove_tree(left)
    folder = temporary_sibling(near / _STAGED)
    try:
        yield folder
    finally:
        remove_tree(folder)


def pull(
    repo_id: str,
    out: str | Path,
    *,
    token: str | None = None,
    training: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Download the newest checkpoint of a repository into a new folder; the folder.

    It is a run folder, ready to be resumed where the repository holds a training state, or a
    checkpoint folder where the repository knows of no run; every command takes either.
    `repo_id` may name a revision: user/name@revision. Without `training` the weights alone are
    brought. `progress(done, total, file)` is told in bytes, as they come. An interrupted download
    goes on where it was cut.

    Raises `StorageError` when `out` exists, `HubNotFoundError` when there is no such repository or
    no checkpoint in it, and as `push` does.
    """
    hub_id, client = HubId.parse(repo_id), HubClient(token)
    files = client.files(hub_id.repository, hub_id.revision)
    names = _names(hub_id, files, training=training)
    snapshot = client.download(hub_id.repository, files, names, progress)
    return unpack(snapshot, Path(out), training=training)


def resumable_step(repo_id: str, *, token: str | None = None) -> int | None:
    """The step of the checkpoint in a repository that training can go on from; None where there is
    no such checkpoint or no such repository.

    Raises `HubAccessError` and `HubUnreachableError`, for not knowing is not the same as no, and
    `UsageError` for a checkpoint without a training state, which a run would replace.
    """
    hub_id, client = HubId.parse(repo_id), HubClient(token)
    try:
        files = client.files(hub_id.repository, hub_id.revision)
    except HubNotFoundError:
        return None
    if MANIFEST not in files.sizes:
        return None
    if not {MODEL, TRAINING, f"{CARRIED}/config.json"} <= files.sizes.keys():
        raise UsageError(
            f"{hub_id} holds a model without what training needs to go on, and a run would replace "
            "it; name another repository"
        )
    return step_of(read_manifest(client.download(hub_id.repository, files, [MANIFEST])))


def who_am_i(token: str | None = None) -> str:
    """The name of the user whose token it is; `HubAccessError` for one that the hub refuses."""
    return HubClient(token).who_am_i()


def fetch(name: str) -> Path | None:
    """The local copy of a hub id, brought up to date; None for what is no hub id.

    Where the hub does not answer, the copy of an earlier time serves. It holds no training state.
    """
    hub_id = parse_hub_id(name)
    if hub_id is None:
        return None
    try:
        client = HubClient(waits=_FIRST_CONTACT)
    except MissingExtraError:
        return None
    try:
        files = client.files(hub_id.repository, hub_id.revision)
        copy = client.download(hub_id.repository, files, _names(hub_id, files, training=False))
        client.note(hub_id.repository, hub_id.revision)
        return copy
    except HubUnreachableError as error:
        earlier = client.cached(hub_id.repository, hub_id.revision)
        if earlier is not None and (earlier / MODEL).is_file():
            return earlier
        raise HubUnreachableError(f"there is no folder {name} here, and {error}") from error
    except HubNotFoundError as error:
        raise HubNotFoundError(f"there is no folder {name} here, and {error}") from error


def _names(hub_id: HubId, files: RemoteFiles, *, training: bool) -> list[str]:
    """The files to bring, the manifest first."""
    if not {MANIFEST, MODEL} <= files.sizes.keys():
        raise HubNotFoundError(
            f"{hub_id} holds no checkpoint of this project: it has no {MANIFEST} with a {MODEL}"
        )
    wanted = OURS & files.sizes.keys() - (set() if training else {TRAINING})
    return sorted(wanted, key=lambda name: (name != MANIFEST, name))


register_fetch(fetch)
