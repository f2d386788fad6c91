"""Runs the dashboard: a process of its own that shows browsers what a management server does."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import app, background_tasks, ui

from bit_transformer.errors import ConfigError
from bit_transformer.server.access.headers import COMMON, NO_FRAMES
from bit_transformer.server.access.origins import SameSite, is_loopback, own_hosts
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.downloads import add_downloads
from bit_transformer.server.dashboard.login import Login
from bit_transformer.server.dashboard.page import draw_page
from bit_transformer.server.dashboard.policy import PagePolicy
from bit_transformer.server.dashboard.pulse import Pulse
from bit_transformer.server.signals import ends_in_order

PASSWORD_VARIABLE = "BIT_TRANSFORMER_PASSWORD"
_FAVICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 26 26"><g fill="none"
stroke="#6366f1" stroke-width="2.4" stroke-linecap="round"><path d="M4 13 L12 7 L21 4 M12 7 L21 10
M4 13 L12 19 L21 16 M12 19 L21 22"/></g><circle cx="4" cy="13" r="3.2" fill="#6366f1"/></svg>"""


@dataclass(frozen=True)
class Place:
    """Where the dashboard listens and by which names it is known."""

    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: Sequence[str] = ()
    password: str | None = None
    """What visitors have to know."""


def run_dashboard(place: Place, address: str, token: Callable[[], str]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    Raises `ConfigError` for an address that cannot be had, or that others can reach without a
    password.
    """
    if not place.password and not is_loopback(place.host):
        raise ConfigError(
            f"{place.host} can be reached by others: give a password with --password or in "
            f"{PASSWORD_VARIABLE}, or serve on 127.0.0.1"
        )
    _require_free(place)
    backend = Backend(address, token)
    pulse = Pulse(backend)

    @ui.page("/", title="BitTransformerLM", response_timeout=30)
    async def index() -> None:
        await draw_page(backend, pulse)

    add_downloads(backend)
    app.on_startup(lambda: background_tasks.create(pulse.run(), name="pulse"))
    hosts = (*own_hosts(place.host, place.port), *place.allowed_hosts)
    if place.password:
        app.add_middleware(Login, password=place.password)
    app.add_middleware(SameSite, hosts=hosts)
    app.add_middleware(PagePolicy)
    with ends_in_order():
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


def _require_free(place: Place) -> None:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        socket.create_server((place.host, place.port), family=family).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {place.host}:{place.port}: {error}; choose another --host or --port"
        ) from error
