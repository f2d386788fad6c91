"""Bytes in a request: text, base64 or an uploaded file."""

import base64
import binascii

from pydantic import model_validator

from bit_transformer.errors import ConfigError, TooLargeError
from bit_transformer.server.schemas import Name, Request, Text
from bit_transformer.server.workspace import Workspace


class DataRequest(Request):
    """Bytes to read: exactly one of `text`, `base64` and `file`."""

    text: Text | None = None
    """Text, read as its UTF-8 bytes."""
    base64: Text | None = None
    """Any bytes, in base64."""
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

    def read(self, workspace: Workspace, max_bytes: int) -> bytes:
        """Return the bytes; raises `TooLargeError` above the limit, `ConfigError` for 0 bytes."""
        content = encode(self.text) if self.base64 is None else decode(self.base64)
        if self.file is not None:
            path = workspace.file(self.file)
            if path.stat().st_size > max_bytes:
                raise _too_large(path.stat().st_size, max_bytes)
            content = path.read_bytes()
        if len(content) > max_bytes:
            raise _too_large(len(content), max_bytes)
        if not content:
            raise ConfigError("the data must have at least 1 byte, got 0")
        return content


def encode(text: str | None) -> bytes:
    """Return the UTF-8 bytes of a text; raises `ConfigError` if it has half a surrogate pair."""
    try:
        return (text or "").encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the text has half a surrogate pair at character {error.start}; send bytes in base64"
        ) from error


def decode(text: str | None) -> bytes:
    """Return the bytes of a base64 text; raises `ConfigError` if it is not base64."""
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"the value is not base64: {error}") from error


def to_base64(content: bytes) -> str:
    """Return bytes as base64 text, for JSON."""
    return base64.b64encode(content).decode()


def _too_large(size: int, max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the data of a request must have at most {max_bytes:,} bytes, got {size:,}; use the "
        "command line for larger files"
    )
