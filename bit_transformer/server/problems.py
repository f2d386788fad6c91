"""Errors as problem documents (RFC 9457): a status, a title and a sentence, never a stack trace."""

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
"""Status of each class of errors. The first class that matches decides."""
RETRY_SECONDS = 5
_MAX_FIELDS = 10
"""Wrong fields that a problem lists. A request may have thousands of them."""
_MAX_CHARACTERS = 1000
"""Characters of a message or of a field's name. Both can quote the request, which may be long."""


class FieldProblem(BaseModel):
    """One wrong field of a request."""

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
    """The first ten wrong fields."""
    wrong_fields: int | None = None
    """Number of all wrong fields."""
    owner: str | None = None
    """Job or process that holds the run or file."""

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of the response."""
        found = {}
        if self.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            # The server does not read the rest of such a request.
            found["connection"] = "close"
        if self.status == HTTPStatus.UNAUTHORIZED:
            found["www-authenticate"] = 'Bearer realm="bit-transformer"'
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            found["retry-after"] = str(RETRY_SECONDS)
        return found

    def body(self) -> bytes:
        """Return the document as JSON."""
        return self.model_dump_json(exclude_none=True).encode()


def problem(status: int, detail: str, *, kind: str | None = None, **more: Any) -> Problem:
    """Return a problem with this status. `kind` names it if the status is not specific enough."""
    title = HTTPStatus(status).phrase
    slug = kind or re.sub(r"[^a-z]+", "-", title.lower())
    urn = f"urn:bit-transformer:problem:{slug}"
    return Problem(type=urn, title=title, status=status, detail=shorten(detail), **more)


def problem_of(error: Exception) -> Problem:
    """Return the problem for an error. The text of an unexpected error stays in the log."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            name = type(error).__name__.removesuffix("Error")
            slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
            return problem(status, str(error), kind=slug, owner=getattr(error, "owner", None))
    return problem(500, "an internal error occurred; the log of the server describes it")


def problem_of_fields(found: Sequence[Mapping[str, Any]]) -> Problem:
    """Return the problem for a request that violates its schema, from the errors of pydantic."""
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, f"the body is not JSON: {found[0].get('ctx', {}).get('error', '')}")
    fields = [
        FieldProblem(
            where=shorten(_field_path(one["loc"])),
            message=shorten(one["msg"].removeprefix("Value error, ")),
        )
        for one in found[:_MAX_FIELDS]
    ]
    first = fields[0]
    more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    detail = shorten(f"{first.where}: {first.message}") + more
    return problem(422, detail, kind="invalid", fields=fields, wrong_fields=len(found))


def shorten(text: str) -> str:
    """Return a text with its middle left out if it is longer than the limit."""
    if len(text) <= _MAX_CHARACTERS:
        return text
    half = _MAX_CHARACTERS // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} ... ({left_out:,} characters left out) ... {text[-half:]}"


def _field_path(location: Iterable[Any]) -> str:
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("body", "query", "path"):
        parts = parts[1:]
    return ".".join(parts)
