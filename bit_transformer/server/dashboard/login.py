"""A password in front of the dashboard, for addresses that others can reach.

Whoever knows it is given a cookie that ends with the process; the token of the management server
stays where it is.
"""

import asyncio
import hmac
import html
import secrets
import urllib.parse
from http.cookies import CookieError, SimpleCookie

from starlette.responses import HTMLResponse, RedirectResponse, Response

from bit_transformer.server.access.asgi import App, Receive, Scope, Send, header

_COOKIE = "bit_transformer_visit"
_PATH = "/login"
_MOST_BYTES = 4096
_WAIT = 1.0
"""Seconds before a wrong password is answered, one at a time."""
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>BitTransformerLM</title>
<style>:root{{color-scheme:light dark;font-family:system-ui,sans-serif}}body{{display:grid;
place-items:center;min-height:90vh;margin:0}}form{{display:grid;gap:12px;width:min(320px,90vw)}}
input,button{{font:inherit;padding:10px 12px;border-radius:8px;border:1px solid #8892a4}}
button{{background:#5b54e8;color:#fff;border:0}}p{{margin:0}}</style>
<form method="post" action="/login"><h1>BitTransformerLM</h1><p role="alert">{words}</p>
<label for="p">Password of this dashboard</label>
<input id="p" name="password" type="password" autocomplete="current-password" autofocus required>
<button>Enter</button></form></html>"""


class Login:
    """Lets in who knows the password, over HTTP and websockets."""

    def __init__(self, app: App, password: str) -> None:
        self._app, self._password = app, password
        self._visit = secrets.token_urlsafe(32)
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan" or self._is_known(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            answer = await self._answer(scope, receive)
            await answer(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie((header(scope, b"cookie") or b"").decode("latin-1"))
        except CookieError:
            return False
        given = cookies[_COOKIE].value if _COOKIE in cookies else ""
        return hmac.compare_digest(given.encode(), self._visit.encode())

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["path"] != _PATH or scope["method"] != "POST":
            return _page("", 401)
        given = await _password_of(receive)
        async with self._one_at_a_time:
            if not hmac.compare_digest(given.encode(), self._password.encode()):
                await asyncio.sleep(_WAIT)
                return _page("That is not the password.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_COOKIE, self._visit, httponly=True, samesite="strict")
        return answer


def _page(words: str, status: int) -> Response:
    return HTMLResponse(
        _PAGE.format(words=html.escape(words)), status, headers={"Cache-Control": "no-store"}
    )


async def _password_of(receive: Receive) -> str:
    """What the form holds; nothing of one that is too long."""
    body, more = b"", True
    while more and len(body) <= _MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > _MOST_BYTES:
        return ""
    return urllib.parse.parse_qs(body.decode("latin-1")).get("password", [""])[0]
