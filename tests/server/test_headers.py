"""Every response has the security headers, also an error."""

import http.client
from urllib.parse import urlsplit

import pytest

from bit_transformer.server.access.headers import COMMON
from bit_transformer.server.settings import Limits
from tests.server.conftest import TOKEN, launch_done, serving

_POLICY = ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "sandbox")


def _headers(served, method, path, body=None, **more):
    """Send a request and return (status, all headers), including repeated ones."""
    place = urlsplit(served.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **more}
    connection.request(method, path, body, {k: v for k, v in given.items() if v is not None})
    answer = connection.getresponse()
    found = [(name.lower(), value) for name, value in answer.getheaders()]
    connection.close()
    return answer.status, found


def _require_headers(found):
    for name, value in COMMON:
        assert [v for n, v in found if n == name.lower()] == [value], name
    (policy,) = [v for n, v in found if n == "content-security-policy"]
    assert all(words in policy for words in _POLICY)


@pytest.mark.parametrize(
    ("status", "method", "path", "body", "more"),
    [
        (200, "GET", "/health", None, {"Authorization": None}),
        (200, "GET", "/status", None, {}),
        (200, "GET", "/openapi.json", None, {}),
        (200, "GET", "/files/text", None, {}),
        (200, "POST", "/generate", b'{"run": "one", "new_bytes": 1}', {}),
        (401, "GET", "/status", None, {"Authorization": None}),
        (400, "GET", "/status", None, {"Host": "evil.example"}),
        (403, "GET", "/status", None, {"Origin": "null"}),
        (404, "GET", "/no", None, {}),
        (405, "DELETE", "/status", None, {}),
        (413, "POST", "/infer", None, {"Content-Length": "2000000"}),
        (422, "POST", "/infer", b'{"new_bytes": 0}', {}),
        (400, "POST", "/infer", b"{", {}),
        (406, "GET", "/mcp", None, {}),
    ],
)
def test_every_answer_has_them_once(served, status, method, path, body, more):
    found = _headers(served, method, path, body, **more)
    assert found[0] == status
    _require_headers(found[1])
    assert "server" not in dict(found[1])


def test_a_fault_of_the_server_has_them(served, monkeypatch):
    monkeypatch.setattr(served.engine.workspace.__class__, "runs", lambda self: 1 / 0)
    status, found = _headers(served, "GET", "/runs")
    assert status == 500
    _require_headers(found)


def test_what_never_reaches_the_application_has_them(runs):
    with serving(runs, Limits(connections=1), launch_done) as served:
        status, found = _headers(served, "GET", "/health")
        assert status == 503
        _require_headers(found)
    with serving(runs, Limits(), launch_done) as served:
        status, found = _headers(served, "GET", "/health", **{"Content-Length": "many"})
        assert status == 400
        _require_headers(found)


def test_a_file_is_handed_out_as_data_and_never_shown_as_a_page(served):
    page = b"<!doctype html><script>alert(1)</script>"
    assert served.ask("PUT", "/files/page.html", page)[0] == 201
    status, headers, content = served.ask("GET", "/files/page.html")
    assert (status, content) == (200, page)
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment")
