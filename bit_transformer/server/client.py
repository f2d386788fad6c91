"""Asks a running server, for the command line and for scripts; needs no library."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from bit_transformer.errors import ConfigError, RefusedError, SourceError, UnreachableError
from bit_transformer.server.operations.registry import Operation
from bit_transformer.server.settings import TOKEN_VARIABLE

ADDRESS_VARIABLE = "MCP_SERVER_ADDR"
DEFAULT_ADDRESS = "http://127.0.0.1:7000"
_QUIET_SECONDS = 60.0
"""Longer than the server takes to say that there is nothing to say."""


def find_address(given: str | None) -> str:
    """The address that was given, else that of the environment, else the default one."""
    address = (given or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).rstrip("/")
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise ConfigError(f"a server's address begins with http:// or https://, got {address!r}")
    return address


def find_token(runs: Path) -> str:
    """The token of the environment, else that of the server of a runs folder."""
    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return given
    path = runs / ".server" / "token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read the token in {path}: {error.strerror}; name the server's runs folder "
            f"with --runs, or set {TOKEN_VARIABLE}"
        ) from error


@dataclass(frozen=True)
class Client:
    """One server and the token for it."""

    address: str
    token: str

    def call(self, operation: Operation, arguments: Mapping[str, Any]) -> Any:
        """The answer of an operation that is no stream, as JSON values.

        Raises `UnreachableError`, and `RefusedError` with the server's words.
        """
        with self._open(operation, arguments) as answer:
            return json.load(answer)

    def stream(self, operation: Operation, arguments: Mapping[str, Any]) -> Iterator[Any]:
        """The parts of a stream, as they come; raises as `call`, and for problems on the way."""
        with self._open(operation, arguments) as answer:
            for kind, data in _events(answer):
                if kind == "problem":
                    raise RefusedError(data["detail"])
                if kind == "message":
                    yield data

    def follow(self, job: str) -> Iterator[Any]:
        """What a job tells, and at last the job."""
        with self._request("GET", f"/jobs/{job}/events") as answer:
            for _, data in _events(answer):
                yield data

    def upload(self, path: Path) -> Any:
        """Upload a file under its own name."""
        try:
            size = path.stat().st_size
            with path.open("rb") as content:
                place = f"/files/{urllib.parse.quote(path.name)}"
                with self._request("PUT", place, content, size) as answer:
                    return json.load(answer)
        except FileNotFoundError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}") from error

    def _open(self, operation: Operation, arguments: Mapping[str, Any]) -> HTTPResponse:
        rest = dict(arguments)
        path = operation.path
        for name in operation.path_fields:
            path = path.replace(f"{{{name}}}", urllib.parse.quote(str(rest.pop(name, "")), safe=""))
        if operation.method == "POST" and not operation.path_fields:
            content = json.dumps(rest).encode()
            return self._request("POST", path, content)
        query = urllib.parse.urlencode({key: value for key, value in rest.items()})
        return self._request(operation.method, path + (f"?{query}" if query else ""))

    def _request(
        self, method: str, path: str, content: Any = None, size: int | None = None
    ) -> HTTPResponse:
        kind = "application/json" if isinstance(content, bytes) else "application/octet-stream"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        if size is not None:
            headers["Content-Length"] = str(size)
        request = urllib.request.Request(
            self.address + path, data=content, headers=headers, method=method
        )
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=_QUIET_SECONDS)
        except urllib.error.HTTPError as error:
            raise RefusedError(_words(error)) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(
                f"no server answers at {self.address} ({reason}); start one with "
                "`bit-transformer serve`, or name its address with --server"
            ) from error
        return answer


def _words(error: urllib.error.HTTPError) -> str:
    """What the server said of its refusal."""
    with error:
        try:
            return str(json.load(error)["detail"])
        except (ValueError, KeyError, TypeError):
            return f"the server answered {error.code} {error.reason}"


def _events(answer: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """(kind, data) of each server-sent event."""
    kind = "message"
    for raw in answer:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
            kind = "message"
