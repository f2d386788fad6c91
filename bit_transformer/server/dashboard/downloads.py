"""Files of the management server, handed on to the browser piece by piece."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from nicegui import app

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.schemas import Name


def add_downloads(backend: Backend) -> None:
    """Serve `/download/NAME`."""

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
