"""The hub's own library behind a few functions: tokens, bounded retries, one kind of error.

The only importer of huggingface_hub. A token goes into the headers of requests and nowhere else:
not into files, logs, messages or the chain of causes of an error.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
"""Told as a transfer goes on: bytes done, bytes in all, name of the file."""
Value = TypeVar("Value")

WAITS: Sequence[float] = (1.0, 2.0, 4.0)
"""Seconds before each further attempt; as many attempts as entries, and the first."""
LONGEST_TRY = 300.0
"""Seconds after which no further attempt is begun."""
_REQUEST_SECONDS = 10.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def library() -> Any:
    """The module huggingface_hub, with its submodule of errors; raises `MissingExtraError`."""
    with extra_imports("huggingface_hub", extra="hub", purpose="the hub"):
        module = import_module("huggingface_hub")
        import_module("huggingface_hub.errors")
    return module


_of_this_process: list[str] = []


def remember_token(token: str) -> None:
    """Have it used by what follows in this process and is given none; it is written nowhere."""
    _of_this_process[:] = [token]


def find_token(token: str | None) -> str | None:
    """The token given, else that of this process, of HF_TOKEN, of the hub's own token file, or
    none.

    Raises `ConfigError`, without showing it, for one that cannot be a token.
    """
    found = token or next(iter(_of_this_process), None) or library().get_token()
    if found is not None and not _TOKEN.fullmatch(found):
        raise ConfigError(
            f"the hub token has {len(found)} characters, some of which no token has (white space, "
            "control or non-ASCII); copy it again"
        )
    return found


@dataclass(frozen=True)
class RemoteFiles:
    """What a repository holds at one commit."""

    commit: str
    sizes: Mapping[str, int]
    """Bytes of each file by its path."""


class HubClient:
    """One conversation with the hub under one token.

    Every method raises a `HubError`: `HubNotFoundError`, `HubAccessError`, or, when attempts are
    used up, `HubUnreachableError`; and `StorageError` when the local disk refuses.
    """

    def __init__(self, token: str | None = None, *, waits: Sequence[float] | None = None) -> None:
        """The token is looked for as `find_token` does; `waits` stands for `WAITS`."""
        self._library = library()
        self._secret = find_token(token)
        self._waits = WAITS if waits is None else waits
        # Read at each use and not, as the library does, once when it is imported.
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        self._api = self._library.HfApi(
            endpoint=self._endpoint,
            token=self._secret or False,
            library_name="bit-transformer",
        )

    def __repr__(self) -> str:
        return f"HubClient({self.address})"

    @property
    def address(self) -> str:
        """Where the hub is."""
        return str(self._api.endpoint)

    def who_am_i(self) -> str:
        """The name of the user whose token this is."""
        if self._secret is None:
            raise HubAccessError(_NO_TOKEN)
        return str(self._run("check the token", lambda: self._api.whoami())["name"])

    def files(self, repository: str, revision: str | None = None) -> RemoteFiles:
        """The newest commit of a revision and the files in it."""
        info = self._run(
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
        """Bring files of one commit into the hub's cache; the folder that stands for the commit.

        What is there already is not sent again; a file that was cut short goes on from where it
        was.
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
            path = self._run(repository, call)
            done += files.sizes[name]
            if progress is not None:
                progress(done, total, name)
            folder = Path(path).parents[len(Path(name).parts) - 1]
        if folder is None:
            raise HubNotFoundError(f"{repository} holds no checkpoint of this project")
        return folder

    def note(self, repository: str, revision: str | None) -> None:
        """Write into the cache which commit a revision means now, for `cached`."""
        self._run(repository, lambda: self._api.resolve_revision(repository, revision=revision))

    def cached(self, repository: str, revision: str | None) -> Path | None:
        """The copy of a repository that an earlier download has left, without asking the hub."""
        try:
            folder = self._library.snapshot_download(
                repository, revision=revision, local_files_only=True, token=False
            )
        except (OSError, ValueError):
            return None
        return Path(folder)

    def create(self, repository: str, *, private: bool) -> None:
        """Make a repository unless it is there."""
        self._require_token()
        self._run(
            repository,
            lambda: self._api.create_repo(repository, private=private, exist_ok=True),
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
        """Put local files into a repository as one commit, all or none; the commit's address.

        Contents are sent one after the other before; what the hub has already is not sent again.
        """
        self._require_token()
        hub, sizes = self._library, {name: path.stat().st_size for name, path in files.items()}
        total, done = sum(sizes.values()), 0
        additions = []
        for name, path in files.items():
            addition = hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
            send = partial(self._api.preupload_lfs_files, repository, [addition])
            with _no_bars(hub):
                self._run(repository, send)
            additions.append(addition)
            done += sizes[name]
            if progress is not None:
                progress(done, total, name)
        removals = [hub.CommitOperationDelete(path_in_repo=name) for name in remove]
        info = self._run(
            repository,
            lambda: self._api.create_commit(
                repository, [*additions, *removals], commit_message=message
            ),
        )
        return str(info.commit_url)

    def _require_token(self) -> None:
        if self._secret is None:
            raise HubAccessError(_NO_TOKEN)

    def _run(self, what: str, call: Callable[[], Value]) -> Value:
        """The value of a call, tried again while the hub does not answer, within bounds."""
        begun = time.monotonic()
        for wait in (*self._waits, None):
            try:
                return call()
            except BitTransformerError:
                raise
            except Exception as error:
                cause = error
            problem = self._translated(cause, what)
            late = time.monotonic() - begun > LONGEST_TRY
            if wait is None or late or not isinstance(problem, HubUnreachableError):
                # Outside the handler, and not chained where the cause could show the token.
                raise problem from (None if self._shows_token(cause) else cause)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _shows_token(self, error: BaseException | None) -> bool:
        if self._secret is None or error is None:
            return False
        return self._secret in f"{error!r} {error}" or self._shows_token(
            error.__cause__ or error.__context__
        )

    def _translated(self, error: Exception, what: str) -> BitTransformerError:
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            # How the library tells that one file of several did not get through.
            error = error.__cause__
        errors, status = self._library.errors, _status(error)
        said = self._said(error)
        if isinstance(error, errors.HFValidationError):
            return ConfigError(f"a repository is called user/name, got {what!r}: {said}")
        if isinstance(error, errors.GatedRepoError):
            return HubAccessError(f"{what}: access has to be asked for on {self.address} first")
        if isinstance(error, errors.RepositoryNotFoundError):
            token = "this token" if self._secret else "nobody without a token (set HF_TOKEN)"
            return HubNotFoundError(
                f"{self.address} has no repository {what} that {token} may see; check the name"
            )
        if isinstance(error, (errors.RevisionNotFoundError, errors.EntryNotFoundError)) and (
            status is not None
        ):
            return HubNotFoundError(f"{what}: there is no such revision or file; {said}")
        if status in (401, 403):
            refused = "refused the token" if self._secret else "wants a token (set HF_TOKEN)"
            return HubAccessError(
                f"{what}: {self.address} {refused} ({status}); give one that may do this"
            )
        if status is not None and status < 500 and status not in (408, 429):
            return HubError(f"{what}: {self.address} answered {status}: {said}")
        if isinstance(error, OSError) and status is None and error.errno in _DISK:
            return StorageError(
                f"cannot write {error.filename or 'the cache of the hub'}: {error.strerror}; free "
                "some space or set HF_HOME to another folder"
            )
        if status is None and not _is_of_the_network(error):
            return HubError(f"{what}: {type(error).__name__} in the hub's library: {said}")
        return HubUnreachableError(
            f"{what}: {self.address} does not answer ({said}); try again later, what was "
            "transferred so far is kept"
        )

    def _said(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return text.replace(self._secret, "***") if self._secret else text


_NO_TOKEN = "the hub wants a token to write: set HF_TOKEN, or give one"


def _is_of_the_network(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is one of connections: all of them are of `OSError` or
    of the library's own HTTP client."""
    while error is not None:
        if isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore")):
            return True
        error = error.__cause__
    return False


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error, or what caused it, came with."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


@contextmanager
def _no_bars(hub: Any) -> Iterator[None]:
    """The library's own progress bars stay away meanwhile: the command line has one."""
    shown = not hub.utils.are_progress_bars_disabled()
    if shown:
        hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            hub.utils.enable_progress_bars()


def _bar(progress: Progress | None, before: int, total: int, name: str) -> type[Any]:
    """A class that huggingface_hub takes for a progress bar and that shows nothing itself."""

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
            """Nothing is shown, nothing is left."""

    return Bar
