"""Asks the management server. The token stays here: no browser ever sees it."""

import json
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx

from bit_transformer.errors import RefusedError, UnreachableError
from bit_transformer.server.operations import OPERATIONS

_PATIENCE = httpx.Timeout(60.0, connect=3.0)
"""Seconds; longer than the server takes to say that there is nothing to say."""


class Backend:
    """One management server."""

    def __init__(self, address: str, token: Callable[[], str]) -> None:
        """`token` is asked each time, for a server that was started anew may have another."""
        self.address, self._token = address, token
        # No proxy of the environment is to see the token; each page that looks at a run under way
        # holds a connection; an idle one is let go before the server does it, after 5 s, for
        # what is asked in that moment fails.
        self._http = httpx.AsyncClient(
            base_url=address,
            timeout=_PATIENCE,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),
            trust_env=False,
        )

    async def call(self, name: str, fields: Mapping[str, Any] = {}) -> Any:
        """The answer of an operation that is no stream.

        Raises `UnreachableError`, and `RefusedError` with the server's words.
        """
        async with self._ask(name, fields) as answer:
            return json.loads(await answer.aread())

    async def stream(self, name: str, fields: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The parts of a stream, as they come; raises as `call`, and for problems on the way."""
        async with self._ask(name, fields) as answer:
            async for kind, data, _ in _events(answer):
                if kind == "problem":
                    raise RefusedError(data["detail"])
                if kind == "message":
                    yield data

    async def follow(self, job: str, after: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """(number, record) of what a job tells after that number; ends with the job."""
        async for found in self._follow(f"/jobs/{job}/events", after):
            yield found

    async def follow_run(self, run: str, after: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """(number, record) of what is written of a run after that number, whoever trains it; ends
        with the training."""
        async for found in self._follow(f"/runs/{urllib.parse.quote(run, safe='')}/events", after):
            yield found

    async def _follow(self, path: str, after: int) -> AsyncIterator[tuple[int, Any]]:
        headers = {"Last-Event-ID": str(after)}
        async with self._open("GET", path, headers=headers) as answer:
            async for kind, data, number in _events(answer):
                if kind == "message":
                    yield number, data

    async def upload(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> Any:
        """Send a file on; raises as `call`."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        place = f"/files/{urllib.parse.quote(name, safe='')}"
        async with self._open("PUT", place, content=chunks, headers=headers) as answer:
            return json.loads(await answer.aread())

    @asynccontextmanager
    async def download(self, name: str) -> AsyncIterator[httpx.Response]:
        """The content of a file, to be read from what this gives; raises as `call`."""
        async with self._open("GET", f"/files/{urllib.parse.quote(name, safe='')}") as answer:
            yield answer

    async def close(self) -> None:
        """Ask no more."""
        await self._http.aclose()

    def _ask(
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
                    raise RefusedError(_words(answer, await answer.aread()))
                yield answer
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no management server answers at {self.address} "
                f"({str(error) or type(error).__name__})"
            ) from error


def _words(answer: httpx.Response, content: bytes) -> str:
    """What the server said of its refusal."""
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code} {answer.reason_phrase}"


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any, int]]:
    """(kind, data, number) of each server-sent event."""
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
