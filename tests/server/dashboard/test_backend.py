"""Tests of the dashboard's client with a real server, and without a server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bit_transformer.errors import RefusedError, UnreachableError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.login import Login
from bit_transformer.server.settings import Limits
from tests.server.conftest import TOKEN, Served, launch_done, serving

Ask = Callable[[Backend], Coroutine[Any, Any, Any]]


def asked(served: Served, question: Ask) -> Any:
    """Return the result of `question`, which gets a client of the server."""

    async def ask() -> Any:
        backend = Backend(served.url, lambda: TOKEN)
        try:
            return await question(backend)
        finally:
            await backend.close()

    return asyncio.run(ask())


def test_calls_of_each_kind(served: Served) -> None:
    assert asked(served, lambda b: b.call("get_run", {"run": "one"}))["summary"]["name"] == "one"
    assert asked(served, lambda b: b.call("metrics", {"kind": "step", "limit": 3}))["run"] == "one"
    score = asked(served, lambda b: b.call("score", {"text": "to be"}))
    assert score["bytes"] == 5


def test_errors_have_the_message_of_the_server(served: Served) -> None:
    with pytest.raises(RefusedError, match="there is no run 'none'; the newest are one"):
        asked(served, lambda b: b.call("get_run", {"run": "none"}))


def test_streams_and_jobs(served: Served) -> None:
    async def ask(backend: Backend) -> tuple[list[Any], list[Any], list[Any]]:
        parts = [part async for part in backend.stream("generate", {"new_bytes": 3})]
        job = await backend.call("quantize", {"run": "one", "out": "small"})
        told = [record async for record in backend.follow(job["id"])]
        rest = [record async for record in backend.follow(job["id"], told[0][0])]
        return parts, told, rest

    parts, told, rest = asked(served, ask)
    assert [part["done"] for part in parts] == [8, 16, 24]
    assert [record["kind"] for _, record in told] == ["begin", "step"]
    assert rest == told[1:]


def test_files(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async def ask(backend: Backend) -> bytes:
        await backend.upload("new", 6, chunks())
        async with backend.download("new") as answer:
            return await answer.aread()

    assert asked(served, ask) == b"abcdef"


def test_a_wrong_token_is_reported(served: Served) -> None:
    async def ask() -> None:
        backend = Backend(served.url, lambda: "wrong")
        try:
            await backend.call("status")
        finally:
            await backend.close()

    with pytest.raises(RefusedError, match="token"):
        asyncio.run(ask())


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    with serving(tmp_path / "runs", Limits(), launch_done) as gone:
        pass
    with pytest.raises(UnreachableError, match="no management server answers at http"):
        asked(gone, lambda b: b.call("status"))


def test_login_requires_the_password() -> None:
    import httpx

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    async def visit() -> None:
        transport = httpx.ASGITransport(Login(inside, "open sesame"))
        async with httpx.AsyncClient(transport=transport, base_url="http://d") as visitor:
            assert (await visitor.get("/")).status_code == 401
            assert (
                await visitor.get("/", headers={"Cookie": "bit_transformer_visit="})
            ).status_code == 401
            wrong = await visitor.post("/login", data={"password": "guess"})
            assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
            long = await visitor.post("/login", data={"password": "x" * 5000})
            assert long.status_code == 401
            right = await visitor.post("/login", data={"password": "open sesame"})
            assert right.status_code == 303
            assert "HttpOnly" in right.headers["set-cookie"]
            assert "SameSite=strict" in right.headers["set-cookie"]
            assert (await visitor.get("/")).text == "inside"

    asyncio.run(visit())
