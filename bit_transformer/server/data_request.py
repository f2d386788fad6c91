"""Bytes in a request: as text, in base64, or as an uploaded file."""

import base64
import binascii

from pydantic import model_validator

from bit_transformer.errors import ConfigError, TooLargeError
from bit_transformer.server.schemas import Name, Request, Text
from bit_transformer.server.workspace import Workspace


class DataRequest(Request):
    """Bytes to look at: exactly one of `text`, `base64` and `file`."""

    text: Text | None = None
    """Taken as UTF-8."""
    base64: Text | None = None
    """Bytes that are no text."""
    file: Name | None = None
    """Name of an uploaded file."""

    @model_validator(mode="after")
    def _one_of_three(self) -> "DataRequest":
        given = [name for name in ("text", "base64", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of text, base64 and file, got {given}")
        decode(self.base64)
        encode(self.text)
        return self

    def read(self, workspace: Workspace, most: int) -> bytes:
        """The bytes; raises `TooLargeError` for more than `most`, `ConfigError` for none."""
        content = encode(self.text) if self.base64 is None else decode(self.base64)
        if self.file is not None:
            path = workspace.file(self.file)
            if path.stat().st_size > most:
                raise _too_large(path.stat().st_size, most)
            content = path.read_bytes()
        if len(content) > most:
            raise _too_large(len(content), most)
        if not content:
            raise ConfigError("there is nothing to read: 0 bytes given, at least 1 is needed")
        return content


def encode(text: str | None) -> bytes:
    """UTF-8; raises `ConfigError` for half a surrogate pair, which JSON can carry."""
    try:
        return (text or "").encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the text is no Unicode at character {error.start}: half of a surrogate pair"
        ) from error


def decode(text: str | None) -> bytes:
    """The bytes; raises `ConfigError` for what is no base64."""
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"this is no base64: {error}") from error


def to_base64(content: bytes) -> str:
    """Bytes as JSON can hold them."""
    return base64.b64encode(content).decode()


def _too_large(size: int, most: int) -> TooLargeError:
    return TooLargeError(
        f"{size:,} bytes are more than the {most:,} that are read while a request waits; use the "
        "command line for larger files"
    )
