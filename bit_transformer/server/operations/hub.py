"""Runs and checkpoints to and from the hub. Its library is needed by no other operation."""

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
    """A run here and a repository there."""

    run: Name
    """Run or model; of a download, a new name."""
    repo: Repository
    """OWNER/NAME; of a download also OWNER/NAME@REVISION."""
    token: SecretStr | None = None
    """Token of the hub; left out, HF_TOKEN of the server. It is never stored."""


class UploadRequest(HubRequest):
    """A run to upload."""

    private: bool = True
    """Whether a repository that is made for it is private."""


class Uploaded(Response):
    """Where it is now."""

    run: str
    repo: str
    url: str
    files: int
    bytes: int
    """Of these files; what the hub had already was not sent."""


class Downloaded(Response):
    """What it is called here."""

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
    """Upload a run with a model card and all that training elsewhere needs to go on with it."""
    return _upload(work, request, training=True)


@job("/save_checkpoint", prepare=_prepare_upload)
def save_checkpoint(work: Work, request: UploadRequest) -> Uploaded:
    """Upload the newest checkpoint of a run for inference, with a model card."""
    return _upload(work, request, training=False)


@job("/pull", prepare=_prepare_download)
def pull(work: Work, request: HubRequest) -> Downloaded:
    """Download a run, to go on with it or to ask it."""
    return _download(work, request, training=True)


@job("/download_checkpoint", prepare=_prepare_download)
def download_checkpoint(work: Work, request: HubRequest) -> Downloaded:
    """Download a model for inference."""
    return _download(work, request, training=False)


def hub_functions() -> Any:
    """The module that knows the hub; `MissingExtraError` where it is not to be had."""
    return import_extra("bit_transformer.hub", "huggingface_hub", extra="hub", purpose="the hub")


def _upload(work: Work, request: UploadRequest, *, training: bool) -> Uploaded:
    pushed = hub_functions().push(
        work.workspace.run(request.run).path,
        request.repo,
        token=work.secrets.get(_TOKEN),
        training=training,
        private=request.private,
        progress=_telling(work),
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
        progress=_telling(work),
    )
    return Downloaded(run=request.run, repo=request.repo)


def _telling(work: Work) -> Callable[[int, int, str], None]:
    """Tells the job how far it is; stops it between two files when it should end."""

    def told(done: int, total: int, file: str) -> None:
        work.give_way()
        work.log.progress("progress", done, total, "bytes", file=file)

    return told


OPERATIONS = (push, pull, save_checkpoint, download_checkpoint)
