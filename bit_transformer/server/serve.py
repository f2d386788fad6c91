"""Runs the server on an address until it is told to stop."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bit_transformer.errors import ConfigError
from bit_transformer.server.access.asgi import App
from bit_transformer.server.access.headers import COMMON, DATA_POLICY
from bit_transformer.server.access.origins import host_in_url, is_loopback, own_hosts
from bit_transformer.server.access.token import resolve_token
from bit_transformer.server.app import Access, create_app
from bit_transformer.server.jobs.queue import JobQueue, Launch, launch_worker
from bit_transformer.server.models import ModelStore
from bit_transformer.server.operations.registry import Engine
from bit_transformer.server.settings import TOKEN_VARIABLE, Limits
from bit_transformer.server.signals import deferred_signals
from bit_transformer.server.workspace import open_workspace

_HEADER_SECONDS = 10.0
_HEADERS = (*COMMON, DATA_POLICY)


@dataclass(frozen=True)
class Address:
    """The address that the server listens on, and the hosts and origins that it accepts."""

    host: str = "127.0.0.1"
    port: int = 7000
    allowed_hosts: Sequence[str] = ()
    """Accepted Host headers besides those of the address, with port."""
    allowed_origins: Sequence[str] = ()
    """Accepted origins besides those of the hosts."""


def make_engine(runs: Path, limits: Limits, launch: Launch = launch_worker) -> Engine:
    """Return the engine of a runs folder."""
    workspace = open_workspace(runs)
    return Engine(
        workspace=workspace,
        limits=limits,
        models=ModelStore(limits),
        jobs=JobQueue(workspace, limits, launch),
        started=time.time(),
    )


def run_server(
    engine: Engine, address: Address, token: str | None, announce: Callable[[str, Path], None]
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; first call `announce` with the URL and token file.

    Raises `ConfigError` if the address cannot be used, or if other machines can reach it and no
    token was given. Raises `ConflictError` while another server has the folder open.
    """
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(address.host):
        raise ConfigError(
            f"{address.host} can be reached by others; set a token with --token or in "
            f"{TOKEN_VARIABLE}, or serve on 127.0.0.1"
        )
    with _listening(address) as listener:
        engine.jobs.open()
        try:
            server, url = make_server(engine, address, listener, token)
            with deferred_signals():
                announce(url, engine.workspace.token)
                server.run(sockets=[listener])
        finally:
            engine.jobs.close()


def make_server(
    engine: Engine, address: Address, listener: socket.socket, token: str | None
) -> tuple[uvicorn.Server, str]:
    """Return a server for a socket, ready to run, and its URL."""
    port = listener.getsockname()[1]
    access = Access(
        token=resolve_token(engine.workspace.token, token),
        hosts=(*own_hosts(address.host, port), *address.allowed_hosts),
        origins=tuple(address.allowed_origins),
    )
    server = uvicorn.Server(_settings(create_app(engine, access), engine.limits))
    return server, f"http://{host_in_url(address.host)}:{port}"


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {address.host}:{address.port}: {error}; choose another --host or "
            "--port"
        ) from error


def _settings(app: App, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_TimeoutProtocol,
        ws="none",
        log_level="warning",
        server_header=False,
        headers=list(_HEADERS),
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=3,
    )


class _TimeoutProtocol(H11Protocol):
    """Closes connections that do not send a request's head in time, which uvicorn does not do."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, with the security headers, which uvicorn leaves out."""
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"connection", b"close"),
        ]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timer()

    def _update_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_timer()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_HEADER_SECONDS, self._time_out)

    def _time_out(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _cancel_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
