"""Errors as problem documents (RFC 9457): a status, a title and a sentence; never a stack trace."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict

from bit_transformer import errors

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (errors.UnknownNameError, HTTPStatus.NOT_FOUND),
    (errors.CheckpointNotFoundError, HTTPStatus.NOT_FOUND),
    (errors.QueueFullError, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.MissingExtraError, HTTPStatus.NOT_IMPLEMENTED),
    (errors.StorageError, HTTPStatus.INSUFFICIENT_STORAGE),
    (errors.UsageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.DataError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.CodecError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.BitTransformerError, HTTPStatus.CONFLICT),
)
"""The first class that fits decides."""
RETRY_SECONDS = 5
_MOST_FIELDS = 10
"""Fields that are told; of a request with thousands of wrong ones nobody reads more."""
_MOST_CHARACTERS = 1000
"""Of a sentence or a place. What was sent may be a part of it, and be as long as a body."""


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    where: str
    message: str


class Problem(BaseModel):
    """A problem document."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    fields: list[FieldProblem] | None = None
    """The first ten that are wrong."""
    wrong_fields: int | None = None
    """How many are wrong in all."""
    owner: str | None = None
    """Job that has what was asked for."""

    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        found = {}
        if self.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            # The rest of such a request is not waited for.
            found["connection"] = "close"
        if self.status == HTTPStatus.UNAUTHORIZED:
            found["www-authenticate"] = 'Bearer realm="bit-transformer"'
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            found["retry-after"] = str(RETRY_SECONDS)
        return found

    def body(self) -> bytes:
        """The document."""
        return self.model_dump_json(exclude_none=True).encode()


def problem(status: int, detail: str, *, kind: str | None = None, **more: Any) -> Problem:
    """A problem of that status; `kind` names it where the status does not say enough."""
    title = HTTPStatus(status).phrase
    slug = kind or re.sub(r"[^a-z]+", "-", title.lower())
    address = f"urn:bit-transformer:problem:{slug}"
    return Problem(type=address, title=title, status=status, detail=shortened(detail), **more)


def problem_of(error: Exception) -> Problem:
    """What is told of an error; of one that nobody foresaw only that it happened."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            name = type(error).__name__.removesuffix("Error")
            slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
            return problem(status, str(error), kind=slug, owner=getattr(error, "owner", None))
    return problem(500, "something went wrong in the server; its log says what")


def problem_of_fields(found: Sequence[Mapping[str, Any]]) -> Problem:
    """What is told of a request that does not fit its schema."""
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, f"the body is no JSON: {found[0].get('ctx', {}).get('error', '')}")
    fields = [
        FieldProblem(
            where=shortened(_place(one["loc"])),
            message=shortened(one["msg"].removeprefix("Value error, ")),
        )
        for one in found[:_MOST_FIELDS]
    ]
    first = fields[0]
    more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    detail = shortened(f"{first.where}: {first.message}") + more
    return problem(422, detail, kind="invalid", fields=fields, wrong_fields=len(found))


def shortened(text: str) -> str:
    """A text with its middle left out where it is too long to be read."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} ... ({left_out:,} characters left out) ... {text[-half:]}"


def _place(location: Iterable[Any]) -> str:
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("body", "query", "path"):
        parts = parts[1:]
    return ".".join(parts)
