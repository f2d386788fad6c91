"""Runs and checkpoints to and from the hub. Only these operations need the library of the hub."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, SecretStr

from bit_transformer.extras import import_extra
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.operations.registry import Engine, Prepared, job
from bit_transformer.server.schemas import Name, Request, Response

Repository = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}(@[A-Za-z0-9._-]+)?$",
        max_length=300,
    ),
]
_TOKEN = "hub_token"


class HubRequest(Request):
    """A run on the server and a repository on the hub."""

    run: Name
    """Run or model to upload, or the new name of a download."""
    repo: Repository
    """OWNER/NAME, or OWNER/NAME@REVISION for a download."""
    token: SecretStr | None = None
    """Token of the hub; by default HF_TOKEN of the server. It is never stored."""


class UploadRequest(HubRequest):
    """A run to upload."""

    private: bool = True
    """Whether a new repository is private."""


class Uploaded(Response):
    """Result of an upload."""

    run: str
    repo: str
    url: str
    files: int
    bytes: int
    """Bytes of these files. Content that the hub already had was not sent."""


class Downloaded(Response):
    """Result of a download."""

    run: str
    repo: str


def _prepare_upload(engine: Engine, request: UploadRequest) -> Prepared:
    engine.models.require_checkpoint(engine.run(request.run))
    return _without_token(request)


def _prepare_download(engine: Engine, request: HubRequest) -> Prepared:
    engine.workspace.new_run(request.run)
    prepared = _without_token(request)
    return Prepared(prepared.request, writes=request.run, secrets=prepared.secrets)


def _without_token(request: HubRequest) -> Prepared:
    secrets = {} if request.token is None else {_TOKEN: request.token.get_secret_value()}
    return Prepared(request.model_copy(update={"token": None}), secrets=secrets)


@job("/push", prepare=_prepare_upload)
def push(work: Work, request: UploadRequest) -> Uploaded:
    """Upload a run with a model card and its training state, to resume it elsewhere."""
    return _upload(work, request, training=True)


@job("/save_checkpoint", prepare=_prepare_upload)
def save_checkpoint(work: Work, request: UploadRequest) -> Uploaded:
    """Upload the newest checkpoint of a run for inference, with a model card."""
    return _upload(work, request, training=False)


@job("/pull", prepare=_prepare_download)
def pull(work: Work, request: HubRequest) -> Downloaded:
    """Download a run with its training state, to resume it or to use its model."""
    return _download(work, request, training=True)


@job("/download_checkpoint", prepare=_prepare_download)
def download_checkpoint(work: Work, request: HubRequest) -> Downloaded:
    """Download a model for inference."""
    return _download(work, request, training=False)


def hub_functions() -> Any:
    """Return the module `bit_transformer.hub`; raises `MissingExtraError` without its library."""
    return import_extra("bit_transformer.hub", "huggingface_hub", extra="hub", purpose="the hub")


def _upload(work: Work, request: UploadRequest, *, training: bool) -> Uploaded:
    pushed = hub_functions().push(
        work.workspace.run(request.run).path,
        request.repo,
        token=work.secrets.get(_TOKEN),
        training=training,
        private=request.private,
        progress=_progress_callback(work),
    )
    return Uploaded(
        run=request.run,
        repo=request.repo,
        url=pushed.url,
        files=pushed.files,
        bytes=pushed.bytes,
    )


def _download(work: Work, request: HubRequest, *, training: bool) -> Downloaded:
    hub_functions().pull(
        request.repo,
        work.workspace.new_run(request.run).path,
        token=work.secrets.get(_TOKEN),
        training=training,
        progress=_progress_callback(work),
    )
    return Downloaded(run=request.run, repo=request.repo)


def _progress_callback(work: Work) -> Callable[[int, int, str], None]:
    """Return a function that logs the progress, and ends the job between two files if stopped."""

    def report(done: int, total: int, file: str) -> None:
        work.raise_if_stopped()
        work.log.progress("progress", done, total, "bytes", file=file)

    return report


OPERATIONS = (push, pull, save_checkpoint, download_checkpoint)
