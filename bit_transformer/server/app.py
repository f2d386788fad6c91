"""The whole server as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Match

from bit_transformer.server.access.answers import App, FreshAnswers, Scope
from bit_transformer.server.access.origins import SameSite
from bit_transformer.server.access.patience import BoundedRequest
from bit_transformer.server.access.rate import RateLimit
from bit_transformer.server.access.shape import BoundedShape
from bit_transformer.server.access.token import BearerToken
from bit_transformer.server.mcp import make_mcp
from bit_transformer.server.operations.registry import Engine
from bit_transformer.server.operations.status import package_version
from bit_transformer.server.rest import add_operations, add_problems

_DESCRIPTION = """Trains, asks and inspects language models over bits. Long work is a job: a process
of its own, followed with `/jobs/{job}/events`, cancelled with `/jobs/{job}/cancel`. The same
operations are tools of the Model Context Protocol at `/mcp`."""


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    token: str
    hosts: tuple[str, ...]
    """Host headers that are let in, with port."""
    origins: tuple[str, ...] = ()
    """Origins that are let in beside those of the hosts."""


def create_app(engine: Engine, access: Access) -> App:
    """REST and MCP behind token, allow-lists and limits."""
    mcp = make_mcp(engine)
    # Hosts and origins are checked before anything else here, for /mcp as for all.
    mcp_app = mcp.streamable_http_app(
        streamable_http_path="/mcp",
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    app = FastAPI(
        title="BitTransformerLM",
        description=_DESCRIPTION,
        version=package_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_operations(app, engine)
    add_problems(app)
    app.router.routes.extend(mcp_app.routes)
    # Made once, here: schemas read docstrings from source, which Python 3.11 cannot do in two
    # threads at a time (cpython issue 106905).
    app.openapi()
    return _guarded(app, engine, access)


def _guarded(app: FastAPI, engine: Engine, access: Access) -> App:
    limits = engine.limits

    def most_bytes(scope: Scope) -> int:
        uploads = scope["method"] == "PUT" and scope["path"].startswith("/files/")
        return limits.upload_bytes if uploads else limits.body_bytes

    def is_answered(scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)

    bounded = BoundedRequest(BoundedShape(app, is_answered), most_bytes, limits.silence_seconds)
    known = BearerToken(bounded, access.token)
    limited = RateLimit(known, limits.requests_per_second, limits.burst)
    return FreshAnswers(SameSite(limited, access.hosts, access.origins))
