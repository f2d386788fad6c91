"""Password login in front of the dashboard, for addresses that other machines can reach.

A correct password sets a session cookie that is valid until the process ends. The token of the
management server is never sent to the browser.
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
_MAX_BYTES = 4096
_WRONG_PASSWORD_SECONDS = 1.0
"""Delay after a wrong password. The delays add up, because passwords are checked one at a time."""
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>BitTransformerLM</title>
<style>:root{{color-scheme:light dark;font-family:system-ui,sans-serif}}body{{display:grid;
place-items:center;min-height:90vh;margin:0}}form{{display:grid;gap:12px;width:min(320px,90vw)}}
input,button{{font:inherit;padding:10px 12px;border-radius:8px;border:1px solid #8892a4}}
button{{background:#5b54e8;color:#fff;border:0}}p{{margin:0}}</style>
<form method="post" action="/login"><h1>BitTransformerLM</h1><p role="alert">{message}</p>
<label for="p">Password of this dashboard</label>
<input id="p" name="password" type="password" autocomplete="current-password" autofocus required>
<button>Log in</button></form></html>"""


class Login:
    """ASGI middleware that requires the password for HTTP requests and websockets."""

    def __init__(self, app: App, password: str) -> None:
        self._app, self._password = app, password
        self._session = secrets.token_urlsafe(32)
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it has the session cookie; otherwise show the login form."""
        if scope["type"] == "lifespan" or self._is_logged_in(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            answer = await self._answer(scope, receive)
            await answer(scope, receive, send)

    def _is_logged_in(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie((header(scope, b"cookie") or b"").decode("latin-1"))
        except CookieError:
            return False
        session = cookies[_COOKIE].value if _COOKIE in cookies else ""
        return hmac.compare_digest(session.encode(), self._session.encode())

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["path"] != _PATH or scope["method"] != "POST":
            return _login_form("", 401)
        password = await _posted_password(receive)
        async with self._one_at_a_time:
            if not hmac.compare_digest(password.encode(), self._password.encode()):
                await asyncio.sleep(_WRONG_PASSWORD_SECONDS)
                return _login_form("The password is wrong.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_COOKIE, self._session, httponly=True, samesite="strict")
        return answer


def _login_form(message: str, status: int) -> Response:
    return HTMLResponse(
        _PAGE.format(message=html.escape(message)), status, headers={"Cache-Control": "no-store"}
    )


async def _posted_password(receive: Receive) -> str:
    """Return the password of the posted form; empty if the form is too long."""
    body, more = b"", True
    while more and len(body) <= _MAX_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > _MAX_BYTES:
        return ""
    return urllib.parse.parse_qs(body.decode("latin-1")).get("password", [""])[0]
