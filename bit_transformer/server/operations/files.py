"""Uploaded files, and outputs of compression: list, upload, remove."""

from pydantic import model_validator

from bit_transformer.atomic import atomic_write_bytes
from bit_transformer.server.data_request import decode, encode
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import Name, Nothing, Request, Response, Text
from bit_transformer.server.workspace import Workspace


class PutRequest(Request):
    """A small file. Larger ones are uploaded with PUT /files/NAME."""

    name: Name
    text: Text = ""
    """Content as text, stored in UTF-8."""
    base64: Text | None = None
    """Content as bytes in base64, instead of text."""

    @model_validator(mode="after")
    def _decodable(self) -> "PutRequest":
        self.content()
        return self

    def content(self) -> bytes:
        """Return the bytes of the file."""
        return encode(self.text) if self.base64 is None else decode(self.base64)


class FileRequest(Request):
    """One file."""

    name: Name


class File(Response):
    """A file that operations can use by its name."""

    name: str
    bytes: int
    modified: float
    """Unix time in seconds."""


class Files(Response):
    """All files, sorted by name."""

    files: list[File]


@direct("GET", "/files")
def list_files(engine: Engine, request: Nothing) -> Files:
    """List all files."""
    names = engine.workspace.file_names()
    return Files(files=[describe_file(engine.workspace, name) for name in names])


@direct("POST", "/files")
def put_file(engine: Engine, request: PutRequest) -> File:
    """Write a small file. The name must be free."""
    engine.jobs.require_unclaimed(request.name)
    atomic_write_bytes(engine.workspace.new_file(request.name), request.content())
    return describe_file(engine.workspace, request.name)


@direct("DELETE", "/files/{name}")
def delete_file(engine: Engine, request: FileRequest) -> File:
    """Remove a file. The server never removes runs or models."""
    described = describe_file(engine.workspace, request.name)
    engine.workspace.file(request.name).unlink(missing_ok=True)
    return described


def describe_file(workspace: Workspace, name: str) -> File:
    """Return the description of an existing file."""
    found = workspace.file(name).stat()
    return File(name=name, bytes=found.st_size, modified=found.st_mtime)


OPERATIONS = (list_files, put_file, delete_file)
