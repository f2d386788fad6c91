"""Serves the dashboard: one page, and downloads of the management server's files."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from nicegui import app, background_tasks, ui

from bit_transformer.errors import BitTransformerError, ConfigError
from bit_transformer.server.access.headers import COMMON, NO_FRAMES
from bit_transformer.server.access.origins import SameSite, is_loopback, own_hosts
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.login import Login
from bit_transformer.server.dashboard.page import draw_page
from bit_transformer.server.dashboard.policy import PagePolicy
from bit_transformer.server.dashboard.poller import Poller
from bit_transformer.server.schemas import Name
from bit_transformer.server.signals import deferred_signals

PASSWORD_VARIABLE = "BIT_TRANSFORMER_PASSWORD"
_FAVICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 26 26"><g fill="none"
stroke="#6366f1" stroke-width="2.4" stroke-linecap="round"><path d="M4 13 L12 7 L21 4 M12 7 L21 10
M4 13 L12 19 L21 16 M12 19 L21 22"/></g><circle cx="4" cy="13" r="3.2" fill="#6366f1"/></svg>"""


@dataclass(frozen=True)
class DashboardConfig:
    """Address of the dashboard, and who may open it."""

    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: Sequence[str] = ()
    """Host headers to accept besides those of the address."""
    password: str | None = None
    """Password of the page; None lets everybody in."""


def run_dashboard(place: DashboardConfig, address: str, token: Callable[[], str]) -> None:
    """Serve the dashboard of the management server at `address` until SIGINT, SIGTERM or SIGHUP.

    Raises `ConfigError` if the address cannot be used, or if other machines can reach it and no
    password is set.
    """
    if not place.password and not is_loopback(place.host):
        raise ConfigError(
            f"{place.host} can be reached by others: give a password with --password or in "
            f"{PASSWORD_VARIABLE}, or serve on 127.0.0.1"
        )
    _require_free(place)
    backend = Backend(address, token)
    poller = Poller(backend)

    @ui.page("/", title="BitTransformerLM", response_timeout=30)
    async def index() -> None:
        await draw_page(backend, poller)

    _add_downloads(backend)
    app.on_startup(lambda: background_tasks.create(poller.run(), name="poller"))
    hosts = (*own_hosts(place.host, place.port), *place.allowed_hosts)
    # Starlette runs the middleware that is added last first.
    if place.password:
        app.add_middleware(Login, password=place.password)
    app.add_middleware(SameSite, hosts=hosts)
    app.add_middleware(PagePolicy)
    with deferred_signals():
        ui.run(
            host=place.host,
            port=place.port,
            title="BitTransformerLM",
            favicon=_FAVICON,
            dark=None,
            language="en-US",
            show=False,
            reload=False,
            reconnect_timeout=30,
            show_welcome_message=False,
            server_header=False,
            headers=[*COMMON, NO_FRAMES],
        )


def _require_free(place: DashboardConfig) -> None:
    """Raise `ConfigError` unless the address is free; uvicorn would only log the failure."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        socket.create_server((place.host, place.port), family=family).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {place.host}:{place.port}: {error}; choose another --host or --port"
        ) from error


def _add_downloads(backend: Backend) -> None:
    """Serve `/download/NAME`: a file of the management server, passed on in chunks."""

    @app.get("/download/{name}")
    async def download(name: Name) -> Response:
        stack = AsyncExitStack()
        try:
            answer = await stack.enter_async_context(backend.download(name))
        except BitTransformerError as error:
            return PlainTextResponse(str(error), 502)

        async def content() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in answer.aiter_bytes():
                    yield chunk

        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if "content-length" in answer.headers:
            headers["Content-Length"] = answer.headers["content-length"]
        return StreamingResponse(content(), media_type="application/octet-stream", headers=headers)
