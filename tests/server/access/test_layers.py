"""Tests of each access layer by itself, for requests and websockets."""

import asyncio

import pytest

from bit_transformer.server.access.body_limits import BoundedRequest
from bit_transformer.server.access.origins import SameSite, is_loopback, own_hosts
from bit_transformer.server.access.rate import RateLimit
from bit_transformer.server.access.token import BearerToken

HOST = (b"host", b"127.0.0.1:7000")


async def _welcome(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"welcome"})


def _ask(app, headers, kind="http", **more):
    """Return the messages that an application sends."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": "/", "method": "GET", "headers": headers, **more}
    asyncio.run(app(scope, receive, send))
    return sent


def _outcome(messages):
    first = messages[0]
    return first["status"] if first["type"] == "http.response.start" else first["type"]


@pytest.mark.parametrize(
    ("headers", "http", "websocket"),
    [
        ([HOST], 200, "websocket.accept"),
        ([HOST, (b"origin", b"http://127.0.0.1:7000")], 200, "websocket.accept"),
        ([HOST, (b"origin", b"https://mine.example")], 200, "websocket.accept"),
        ([HOST, (b"origin", b"http://evil.example")], 403, "websocket.close"),
        ([HOST, (b"origin", b"null")], 403, "websocket.close"),
        ([HOST, HOST], 400, "websocket.close"),
        (
            [HOST, (b"origin", b"http://127.0.0.1:7000"), (b"origin", b"http://evil.example")],
            403,
            "websocket.close",
        ),
        ([(b"host", b"evil.example")], 400, "websocket.close"),
        ([(b"host", b"127.0.0.1")], 400, "websocket.close"),
        ([], 400, "websocket.close"),
    ],
)
def test_hosts_and_origins_hold_for_requests_and_websockets(headers, http, websocket):
    app = SameSite(_welcome, own_hosts("127.0.0.1", 7000), ["https://mine.example"])
    assert _outcome(_ask(app, headers)) == http
    messages = _ask(app, headers, "websocket")
    assert _outcome(messages) == websocket
    if websocket == "websocket.close":
        assert messages[0]["code"] == 1008


def test_tokens_hold_for_websockets_and_compare_whole():
    app = BearerToken(_welcome, "a-token-of-16-chars")
    right = [(b"authorization", b"Bearer a-token-of-16-chars")]
    assert _outcome(_ask(app, right)) == 200
    assert _outcome(_ask(app, right, "websocket")) == "websocket.accept"
    for wrong in ([], [(b"authorization", b"Bearer a-token-of-16-char")], right * 2):
        assert _outcome(_ask(app, wrong)) == 401
        assert _outcome(_ask(app, wrong, "websocket")) == "websocket.close"


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "bit_transformer.server.access.token.hmac.compare_digest",
        lambda a, b: compared.append((a, b)) or False,
    )
    _ask(BearerToken(_welcome, "right"), [(b"authorization", b"Bearer wrong")])
    assert compared == [(b"Bearer wrong", b"Bearer right")]


def test_a_bucket_refills_and_each_address_has_its_own():
    now = [0.0]
    app = RateLimit(_welcome, per_second=2, burst=2, clock=lambda: now[0])

    def ask(address):
        return _outcome(_ask(app, [], client=(address, 1)))

    assert [ask("a"), ask("a"), ask("a"), ask("b")] == [200, 200, 429, 200]
    now[0] = 0.5
    assert [ask("a"), ask("a")] == [200, 429]
    now[0] = 100
    assert [ask("a"), ask("a"), ask("a")] == [200, 200, 429]


def test_only_so_many_addresses_are_remembered():
    app = RateLimit(_welcome, per_second=1, burst=1, clock=lambda: 0.0)
    for number in range(5000):
        app._take({"client": (str(number), 1)})
    assert len(app._buckets) == 4096


def test_an_answer_nobody_reads_is_given_up():
    async def forever(message):
        await asyncio.sleep(3600)

    async def nothing():
        return {"type": "http.request", "body": b"", "more_body": False}

    app = BoundedRequest(_welcome, lambda scope: 10, 0.05)
    scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
    asyncio.run(asyncio.wait_for(app(scope, nothing, forever), 60))


def test_a_body_that_trickles_is_too_slow_in_the_long_run():
    async def trickle():
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass

    sent = []

    async def send(message):
        sent.append(message)

    app = BoundedRequest(read, lambda scope: 1000, 0.2)
    scope = {"type": "http", "path": "/", "method": "POST", "headers": []}
    asyncio.run(asyncio.wait_for(app(scope, trickle, send), 60))
    assert _outcome(sent) == 408


def test_faults_of_the_application_are_not_hidden():
    async def broken(scope, receive, send):
        raise ZeroDivisionError

    app = BoundedRequest(broken, lambda scope: 10, 1.0)
    with pytest.raises(ZeroDivisionError):
        _ask(app, [])


def test_loopback_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "localhost.evil.example", "")))
    assert own_hosts("::1", 80) == [
        *("127.0.0.1:80", "localhost:80", "[::1]:80", "127.0.0.1", "localhost", "[::1]")
    ]
