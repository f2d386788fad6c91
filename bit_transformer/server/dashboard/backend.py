"""HTTP client of the management server. The token stays in this process; no browser sees it."""

import json
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx

from bit_transformer.errors import RefusedError, UnreachableError
from bit_transformer.server.operations import OPERATIONS

_TIMEOUT = httpx.Timeout(60.0, connect=3.0)
"""Seconds. Reads wait longer than the interval at which an idle event stream sends a ping."""


class Backend:
    """One management server."""

    def __init__(self, address: str, token: Callable[[], str]) -> None:
        """`token` is called for every request, because a restarted server may have a new token."""
        self.address, self._token = address, token
        # Proxies of the environment must not see the token. Each page that follows a run holds a
        # connection, so their number is not limited. An idle connection is closed before the server
        # closes it after 5 s: a request sent at that moment would fail.
        self._http = httpx.AsyncClient(
            base_url=address,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),
            trust_env=False,
        )

    async def call(self, name: str, fields: Mapping[str, Any] = {}) -> Any:
        """Call an operation that does not stream, and return its response.

        Raises `UnreachableError`, and `RefusedError` with the server's message.
        """
        async with self._request(name, fields) as answer:
            return json.loads(await answer.aread())

    async def stream(self, name: str, fields: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Yield the parts of a streamed response.

        Raises the errors of `call`, also for a problem in the middle of the stream.
        """
        async with self._request(name, fields) as answer:
            async for kind, data, _ in _events(answer):
                if kind == "problem":
                    raise RefusedError(data["detail"])
                if kind == "message":
                    yield data

    async def follow(self, job: str, after: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """Yield (number, record) for the records of a job after `after`, until the job ends."""
        async for found in self._follow(f"/jobs/{job}/events", after):
            yield found

    async def follow_run(self, run: str, after: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """Yield (number, record) for the records of a run after `after`, until training ends.

        The training process may be a job of the server or a command line.
        """
        async for found in self._follow(f"/runs/{urllib.parse.quote(run, safe='')}/events", after):
            yield found

    async def _follow(self, path: str, after: int) -> AsyncIterator[tuple[int, Any]]:
        headers = {"Last-Event-ID": str(after)}
        async with self._open("GET", path, headers=headers) as answer:
            async for kind, data, number in _events(answer):
                if kind == "message":
                    yield number, data

    async def upload(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> Any:
        """Upload a file in chunks. Raises the errors of `call`."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        path = f"/files/{urllib.parse.quote(name, safe='')}"
        async with self._open("PUT", path, content=chunks, headers=headers) as answer:
            return json.loads(await answer.aread())

    @asynccontextmanager
    async def download(self, name: str) -> AsyncIterator[httpx.Response]:
        """Open a file and give the response to read it from. Raises the errors of `call`."""
        async with self._open("GET", f"/files/{urllib.parse.quote(name, safe='')}") as answer:
            yield answer

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def _request(
        self, name: str, fields: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[httpx.Response]:
        operation, rest = OPERATIONS[name], dict(fields)
        path = operation.path
        for field in operation.path_fields:
            value = urllib.parse.quote(str(rest.pop(field, "")), safe="")
            path = path.replace(f"{{{field}}}", value)
        if operation.method == "POST":
            return self._open("POST", path, json=None if operation.path_fields else rest)
        return self._open(operation.method, path, params=rest)

    @asynccontextmanager
    async def _open(self, method: str, path: str, **more: Any) -> AsyncIterator[httpx.Response]:
        headers = {"Authorization": f"Bearer {self._token()}", **more.pop("headers", {})}
        try:
            async with self._http.stream(method, path, headers=headers, **more) as answer:
                if answer.is_error:
                    raise RefusedError(_error_detail(answer, await answer.aread()))
                yield answer
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no management server answers at {self.address} "
                f"({str(error) or type(error).__name__})"
            ) from error


def _error_detail(answer: httpx.Response, content: bytes) -> str:
    """Return the message of an error response."""
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code} {answer.reason_phrase}"


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any, int]]:
    """Yield (kind, data, number) for each server-sent event."""
    kind, number = "message", 0
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value), number
            kind = "message"
