"""A client for the hub on top of its own library: tokens, bounded retries, one kind of error.

This is the only importer of huggingface_hub. A token goes into the headers of requests and nowhere
else: not into files, logs, messages or the causes of an error.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from bit_transformer.errors import (
    BitTransformerError,
    ConfigError,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubUnreachableError,
    StorageError,
)
from bit_transformer.extras import extra_imports

Progress = Callable[[int, int, str], None]
"""Called during a transfer with the bytes done, the total bytes and the name of the file."""
Value = TypeVar("Value")

WAITS: Sequence[float] = (1.0, 2.0, 4.0)
"""Seconds before each retry; the number of entries is the number of retries."""
MAX_TRY_SECONDS = 300.0
"""Seconds after which no retry starts."""
_REQUEST_SECONDS = 10.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def library() -> Any:
    """Import huggingface_hub and its submodule of errors; raises `MissingExtraError`."""
    with extra_imports("huggingface_hub", extra="hub", purpose="the hub"):
        module = import_module("huggingface_hub")
        import_module("huggingface_hub.errors")
    return module


@dataclass
class _Login:
    """The token that `hf_login` set for this process, in memory only."""

    token: str | None = field(default=None, repr=False)


_login = _Login()


def remember_token(token: str) -> None:
    """Use a token in all later calls of this process that pass none. It is not written to disk."""
    _login.token = token


def find_token(token: str | None) -> str | None:
    """Return the argument, or else the token of `hf_login`, HF_TOKEN or the hub's token file.

    Returns None if there is no token. Raises `ConfigError`, which does not show the token, if it
    holds characters that no token has.
    """
    found = token or _login.token or library().get_token()
    if found is not None and not _TOKEN.fullmatch(found):
        raise ConfigError(
            f"the hub token of {len(found)} characters is malformed: it is too long, or has white "
            "space, control or non-ASCII characters; copy it again"
        )
    return found


@dataclass(frozen=True)
class RemoteFiles:
    """The files of a repository at one commit."""

    commit: str
    sizes: Mapping[str, int]
    """Size of each file in bytes, by its path."""


class HubClient:
    """A client for the hub with one token.

    Every method may raise a `HubError`: `HubNotFoundError`, `HubAccessError`, or, after the last
    attempt, `HubUnreachableError`. A failed write to the local disk raises `StorageError`.
    """

    def __init__(self, token: str | None = None, *, waits: Sequence[float] | None = None) -> None:
        """Find the token by `find_token`; `waits` replaces `WAITS`."""
        self._library = library()
        self._secret = find_token(token)
        self._waits = WAITS if waits is None else waits
        # The library reads this variable once, at import; read it for each client instead.
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        self._api = self._library.HfApi(
            endpoint=self._endpoint, token=self._secret or False, library_name="bit-transformer"
        )

    def __repr__(self) -> str:
        return f"HubClient({self.address})"

    @property
    def address(self) -> str:
        """Address of the hub."""
        return str(self._api.endpoint)

    def who_am_i(self) -> str:
        """Return the name of the token's user."""
        if self._secret is None:
            raise HubAccessError(_NO_TOKEN)
        return str(self._retry("check the token", lambda: self._api.whoami())["name"])

    def files(self, repository: str, revision: str | None = None) -> RemoteFiles:
        """Return the newest commit of a revision and the files in it."""
        info = self._retry(
            repository,
            lambda: self._api.model_info(
                repository, revision=revision, files_metadata=True, timeout=_REQUEST_SECONDS
            ),
        )
        return RemoteFiles(
            info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()}
        )

    def download(
        self,
        repository: str,
        files: RemoteFiles,
        names: Sequence[str],
        progress: Progress | None = None,
    ) -> Path:
        """Download files of one commit to the hub's cache and return the commit's folder there.

        Files that are there already are not sent again. A partial file continues where it stopped.
        """
        total, done = sum(files.sizes[name] for name in names), 0
        folder = None
        for name in names:
            call = partial(
                self._library.hf_hub_download,
                repository,
                name,
                revision=files.commit,
                token=self._secret or False,
                endpoint=self._endpoint,
                tqdm_class=_bar(progress, done, total, name),
            )
            path = self._retry(repository, call)
            done += files.sizes[name]
            if progress is not None:
                progress(done, total, name)
            folder = Path(path).parents[len(Path(name).parts) - 1]
        if folder is None:
            raise HubNotFoundError(f"{repository} holds no checkpoint of this project")
        return folder

    def record_revision(self, repository: str, revision: str | None) -> None:
        """Record the current commit of a revision in the cache; `cached` reads it later."""
        self._retry(repository, lambda: self._api.resolve_revision(repository, revision=revision))

    def cached(self, repository: str, revision: str | None) -> Path | None:
        """Return the copy of an earlier download, if any, without a request to the hub."""
        try:
            folder = self._library.snapshot_download(
                repository, revision=revision, local_files_only=True, token=False
            )
        except (OSError, ValueError):
            return None
        return Path(folder)

    def create(self, repository: str, *, private: bool) -> None:
        """Create a repository unless it exists."""
        self._require_token()
        self._retry(
            repository, lambda: self._api.create_repo(repository, private=private, exist_ok=True)
        )

    def commit(
        self,
        repository: str,
        files: Mapping[str, Path],
        *,
        remove: Sequence[str] = (),
        message: str,
        progress: Progress | None = None,
    ) -> str:
        """Add local files to a repository as one commit and return the commit's address.

        File contents are sent first, one file after the other. Contents that the hub already has
        are not sent again. The commit then adds all files at once.
        """
        self._require_token()
        hub, sizes = self._library, {name: path.stat().st_size for name, path in files.items()}
        total, done = sum(sizes.values()), 0
        additions = []
        for name, path in files.items():
            addition = hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
            send = partial(self._api.preupload_lfs_files, repository, [addition])
            with _without_bars(hub):
                self._retry(repository, send)
            additions.append(addition)
            done += sizes[name]
            if progress is not None:
                progress(done, total, name)
        removals = [hub.CommitOperationDelete(path_in_repo=name) for name in remove]
        info = self._retry(
            repository,
            lambda: self._api.create_commit(
                repository, [*additions, *removals], commit_message=message
            ),
        )
        return str(info.commit_url)

    def _require_token(self) -> None:
        if self._secret is None:
            raise HubAccessError(_NO_TOKEN)

    def _retry(self, what: str, call: Callable[[], Value]) -> Value:
        """Return the result of a call; retry it, within bounds, while the hub does not answer."""
        begun = time.monotonic()
        for wait in (*self._waits, None):
            try:
                return call()
            except BitTransformerError:
                raise
            except Exception as error:
                cause = error
            problem = self._translate(cause, what)
            late = time.monotonic() - begun > MAX_TRY_SECONDS
            if wait is None or late or not isinstance(problem, HubUnreachableError):
                # Raised outside the handler, so that a cause that shows the token is not chained.
                raise problem from (None if self._shows_token(cause) else cause)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _shows_token(self, error: BaseException | None) -> bool:
        if self._secret is None or error is None:
            return False
        return self._secret in f"{error!r} {error}" or self._shows_token(
            error.__cause__ or error.__context__
        )

    def _translate(self, error: Exception, what: str) -> BitTransformerError:
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            # The library wraps the error of one file among several this way.
            error = error.__cause__
        errors, status = self._library.errors, _status(error)
        reason = self._reason(error)
        if isinstance(error, errors.HFValidationError):
            return ConfigError(f"a repository is called user/name, got {what!r}: {reason}")
        if isinstance(error, errors.GatedRepoError):
            return HubAccessError(f"{what}: access must be requested on {self.address} first")
        if isinstance(error, errors.RepositoryNotFoundError):
            seen = "that this token may see" if self._secret else "that is public (set HF_TOKEN)"
            return HubNotFoundError(
                f"{self.address} has no repository {what} {seen}; check the name"
            )
        if isinstance(error, (errors.RevisionNotFoundError, errors.EntryNotFoundError)) and (
            status is not None
        ):
            return HubNotFoundError(f"{what}: there is no such revision or file; {reason}")
        if status in (401, 403):
            refused = "refused the token" if self._secret else "requires a token"
            return HubAccessError(
                f"{what}: {self.address} {refused} ({status}); use one that has this right"
            )
        if status is not None and status < 500 and status not in (408, 429):
            return HubError(f"{what}: {self.address} answered {status}: {reason}")
        if isinstance(error, OSError) and status is None and error.errno in _DISK:
            return StorageError(
                f"cannot write {error.filename or 'the cache of the hub'}: {error.strerror}; free "
                "some space or set HF_HOME to another folder"
            )
        if status is None and not _is_network_error(error):
            return HubError(f"{what}: {type(error).__name__} in huggingface_hub: {reason}")
        return HubUnreachableError(
            f"{what}: {self.address} does not answer ({reason}); try again later, data transferred "
            "so far is kept"
        )

    def _reason(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return text.replace(self._secret, "***") if self._secret else text


_NO_TOKEN = "the hub requires a token to write; set HF_TOKEN, or pass a token"


def _is_network_error(error: BaseException | None) -> bool:
    """Whether an error or its cause comes from the network: an `OSError`, or an error of the HTTP
    client that the hub's library uses."""
    while error is not None:
        if isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore")):
            return True
        error = error.__cause__
    return False


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status of an error or of its cause."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


@contextmanager
def _without_bars(hub: Any) -> Iterator[None]:
    """Hide the progress bars of the library, because the command line shows its own."""
    shown = not hub.utils.are_progress_bars_disabled()
    if shown:
        hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            hub.utils.enable_progress_bars()


def _bar(progress: Progress | None, before: int, total: int, name: str) -> type[Any]:
    """Return a progress bar class for huggingface_hub that calls `progress` and shows nothing."""

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            self.n = initial

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            if progress is not None:
                progress(before + self.n, total, name)

        def close(self) -> None:
            """Do nothing: nothing is shown."""

    return Bar
