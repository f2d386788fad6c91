"""Uploads and downloads of checkpoints and runs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.atomic import PARTIAL, leftovers, remove_tree, temporary_sibling
from bit_transformer.checkpoint.format import MANIFEST, MODEL, TRAINING, read_manifest
from bit_transformer.errors import (
    HubNotFoundError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
)
from bit_transformer.hub.client import HubClient, Progress, RemoteFiles
from bit_transformer.hub.contents import OWN_FILES, stage, step_of, unpack
from bit_transformer.hub.identity import HubId, parse_hub_id
from bit_transformer.training.run_folder import CARRIED

_STAGED = "push"
_FIRST_CONTACT = (0.5,)
"""Seconds before each retry in `fetch`. There is only one: the name may be a misspelt path."""


@dataclass(frozen=True)
class Pushed:
    """The result of an upload."""

    repository: str
    """A name like user/name."""
    url: str
    """Address of the commit."""
    files: int
    """Number of files in the commit."""
    bytes: int
    """Size of these files, including those that the hub already had and that were not sent."""


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

    The commit also holds a model card with the measured figures, the run's settings and metrics,
    and the files that `transformers` needs. `training` adds the training state, about twice the
    size of the weights, from which training can resume. A repository that does not exist is
    created, `private` or not. Without `token`, the token of HF_TOKEN or of the hub's token file is
    used. `progress(done, total, file)` is called after each file, in bytes.

    Raises `ConfigError` for a malformed `repo_id`, `CheckpointError` if the source cannot be read,
    `HubAccessError` for a missing or refused token, and `HubUnreachableError` after a bounded
    number of attempts. Another push then sends only the missing files.
    """
    repository = HubId.parse(repo_id).repository
    client = HubClient(token)
    source = Path(source)
    with _staging(source) as place:
        files = stage(source, place, training=training, repository=repository)
        client.create(repository, private=private)
        remote = client.files(repository).sizes
        url = client.commit(
            repository,
            files,
            remove=sorted(OWN_FILES & remote.keys() - files.keys()),
            message=message or "Upload a checkpoint of BitTransformerLM",
            progress=progress,
        )
        size = sum(path.stat().st_size for path in files.values())
        return Pushed(repository, url, len(files), size)


@contextmanager
def _staging(source: Path) -> Iterator[Path]:
    """Yield the path of a new folder, which is removed at the end.

    It lies beside the source, where large files can be hard links, or in the system's folder for
    temporary files if that place is not writable. Folders of killed processes are removed first.
    """
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
    """Download the newest checkpoint of a repository into a new folder and return that folder.

    It is a run folder, which can resume if the repository holds a training state; or a checkpoint
    folder if the repository holds no records of a run. Every command takes either. `repo_id` may
    name a revision: user/name@revision. Without `training`, only the weights are downloaded.
    `progress(done, total, file)` is called as bytes arrive. An interrupted download continues
    where it stopped.

    Raises `StorageError` if `out` exists, `HubNotFoundError` if there is no such repository or no
    checkpoint in it, and the other errors of `push`.
    """
    hub_id, client = HubId.parse(repo_id), HubClient(token)
    files = client.files(hub_id.repository, hub_id.revision)
    names = _names(hub_id, files, training=training)
    snapshot = client.download(hub_id.repository, files, names, progress)
    return unpack(snapshot, Path(out), training=training)


def resumable_step(repo_id: str, *, token: str | None = None) -> int | None:
    """Return the step from which a repository's checkpoint can resume training.

    Returns None if there is no such checkpoint or no such repository. Raises `HubAccessError` or
    `HubUnreachableError` if the hub gives no answer, and `UsageError` for a checkpoint without a
    training state, which the uploads of a run would replace.
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
            f"{hub_id} holds a model without a training state, and a run would replace it; name "
            "another repository"
        )
    return step_of(read_manifest(client.download(hub_id.repository, files, [MANIFEST])))


def who_am_i(token: str | None = None) -> str:
    """Return the name of the token's user; raises `HubAccessError` if the hub refuses the token."""
    return HubClient(token).who_am_i()


def fetch(name: str) -> Path | None:
    """Return an up-to-date local copy of a hub id, without training state.

    Returns None if `name` is not a hub id. If the hub does not answer, an earlier copy is used.
    `checkpoint.locate` calls this for names that are not paths.
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
        client.record_revision(hub_id.repository, hub_id.revision)
        return copy
    except HubUnreachableError as error:
        earlier = client.cached(hub_id.repository, hub_id.revision)
        if earlier is not None and (earlier / MODEL).is_file():
            return earlier
        raise HubUnreachableError(f"there is no folder {name} here, and {error}") from error
    except HubNotFoundError as error:
        raise HubNotFoundError(f"there is no folder {name} here, and {error}") from error


def _names(hub_id: HubId, files: RemoteFiles, *, training: bool) -> list[str]:
    """Return the files to download, the manifest first."""
    if not {MANIFEST, MODEL} <= files.sizes.keys():
        raise HubNotFoundError(
            f"{hub_id} holds no checkpoint of this project: {MANIFEST} or {MODEL} is missing"
        )
    wanted = OWN_FILES & files.sizes.keys() - (set() if training else {TRAINING})
    return sorted(wanted, key=lambda name: (name != MANIFEST, name))
