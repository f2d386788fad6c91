"""Calls a running server, for the command line and for scripts, without an HTTP library."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bit_transformer.errors import ConfigError, RefusedError, SourceError, UnreachableError
from bit_transformer.server.settings import TOKEN_VARIABLE

if TYPE_CHECKING:
    from bit_transformer.server.operations.registry import Operation

ADDRESS_VARIABLE = "MCP_SERVER_ADDR"
DEFAULT_ADDRESS = "http://127.0.0.1:7000"
_READ_TIMEOUT_SECONDS = 60.0
"""The server sends a comment every 15 s on an idle event stream."""


def find_address(given: str | None) -> str:
    """Return the given address, else the one in the environment, else the default."""
    address = (given or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).rstrip("/")
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise ConfigError(f"the address must begin with http:// or https://, got {address!r}")
    return address


def find_token(runs: Path) -> str:
    """Return the token in the environment, else the one that a server keeps in the runs folder."""
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
    """One server and its token."""

    address: str
    token: str

    def call(self, operation: "Operation", arguments: Mapping[str, Any]) -> Any:
        """Return the answer as JSON values; raises `UnreachableError` and `RefusedError`."""
        with self._open(operation, arguments) as answer:
            return json.load(answer)

    def stream(self, operation: "Operation", arguments: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the parts of a stream as they arrive; raises as `call` does, also midway."""
        with self._open(operation, arguments) as answer:
            for kind, data in _events(answer):
                if kind == "problem":
                    raise RefusedError(data["detail"])
                if kind == "message":
                    yield data

    def follow(self, job: str) -> Iterator[Any]:
        """Yield the records of a job as they arrive, and at the end the job itself."""
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

    def _open(self, operation: "Operation", arguments: Mapping[str, Any]) -> HTTPResponse:
        rest = dict(arguments)
        path = operation.path
        for name in operation.path_fields:
            path = path.replace(f"{{{name}}}", urllib.parse.quote(str(rest.pop(name, "")), safe=""))
        if operation.method == "POST" and not operation.path_fields:
            content = json.dumps(rest).encode()
            return self._request("POST", path, content)
        query = urllib.parse.urlencode(rest)
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
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=_READ_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            raise RefusedError(_detail(error)) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(
                f"no server answers at {self.address} ({reason}); start one with "
                "`bit-transformer serve`, or name its address with --server"
            ) from error
        return answer


def _detail(error: urllib.error.HTTPError) -> str:
    """Return the detail of the server's problem document."""
    with error:
        try:
            return str(json.load(error)["detail"])
        except (ValueError, KeyError, TypeError):
            return f"the server answered {error.code} {error.reason}"


def _events(answer: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Yield (kind, data) of each server-sent event."""
    kind = "message"
    for raw in answer:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
            kind = "message"
