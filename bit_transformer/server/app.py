"""REST and MCP as one ASGI application, behind token, allow-lists and limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Match

from bit_transformer.server.access.asgi import App, NoStore, Scope
from bit_transformer.server.access.body_limits import BoundedRequest
from bit_transformer.server.access.origins import SameSite
from bit_transformer.server.access.rate import RateLimit
from bit_transformer.server.access.shape import BoundedShape
from bit_transformer.server.access.token import BearerToken
from bit_transformer.server.mcp import make_mcp
from bit_transformer.server.operations.registry import Engine
from bit_transformer.server.operations.status import package_version
from bit_transformer.server.rest import add_operations, add_problems

_DESCRIPTION = """Trains, queries and inspects language models over bits. Long work is a job, which
runs in its own process. Follow it with `/jobs/{job}/events`, and cancel it with
`/jobs/{job}/cancel`. The same operations are tools of the Model Context Protocol at `/mcp`."""


@dataclass(frozen=True)
class Access:
    """The token, and the hosts and origins that are accepted."""

    token: str
    hosts: tuple[str, ...]
    """Accepted Host headers, with port."""
    origins: tuple[str, ...] = ()
    """Accepted origins besides those of the hosts."""


def create_app(engine: Engine, access: Access) -> App:
    """Return the application with all of its layers."""
    mcp = make_mcp(engine)
    # The library's own check is off: `SameSite` checks hosts and origins of every request.
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
    # The document is built here and cached. Schemas read docstrings from source code, which Python
    # 3.11 cannot do in two threads at once (cpython issue 106905).
    app.openapi()
    return _guarded(app, engine, access)


def _guarded(app: FastAPI, engine: Engine, access: Access) -> App:
    limits = engine.limits

    def max_bytes(scope: Scope) -> int:
        uploads = scope["method"] == "PUT" and scope["path"].startswith("/files/")
        return limits.upload_bytes if uploads else limits.body_bytes

    def has_route(scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)

    # The outermost layer is the last one here: foreign pages are refused first, bodies read last.
    bounded = BoundedRequest(BoundedShape(app, has_route), max_bytes, limits.silence_seconds)
    authorized = BearerToken(bounded, access.token)
    limited = RateLimit(authorized, limits.requests_per_second, limits.burst)
    return NoStore(SameSite(limited, access.hosts, access.origins))
