"""Tests of known attacks against a running server."""

import logging
import os
import signal
import socket
import stat
import subprocess
from urllib.parse import urlsplit

import pytest

from bit_transformer.cli.main import main
from bit_transformer.server import serve
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.settings import Limits
from tests.server.conftest import TOKEN, command, launch_done, serving

_CLOSE = "\r\nConnection: close\r\n\r\n"


@pytest.fixture
def small(runs):
    """Run a server with small limits."""
    with serving(runs, Limits(body_bytes=2000, upload_bytes=4000), launch_done) as found:
        yield found


def _raw(served, content: bytes) -> bytes:
    """Send raw bytes and return the response of the server until it closes the connection."""
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(content)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def _host(served) -> str:
    return urlsplit(served.url).netloc


def test_without_the_right_token_nothing_is_told(served):
    wrong = ["Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer ", None]
    addresses = [("GET", "/status"), ("POST", "/mcp"), ("GET", "/openapi.json"), ("GET", "/no")]
    for given in wrong:
        for method, path in addresses:
            status, headers, problem = served.ask(method, path, None, {"Authorization": given})
            assert (status, problem["title"]) == (401, "Unauthorized")
            assert headers["www-authenticate"].startswith("Bearer")
    assert served.ask("GET", "/health", None, {"Authorization": None})[0] == 200


def test_a_token_given_twice_or_in_the_address_does_not_count(served):
    lines = [f"Authorization: Bearer {TOKEN}", "Authorization: Bearer other"]
    head = "\r\n".join(["GET /status HTTP/1.1", f"Host: {_host(served)}", *lines]) + _CLOSE
    assert b" 401 " in _raw(served, head.encode())[:20]
    address = f"/status?token={TOKEN}&access_token={TOKEN}"
    assert served.ask("GET", address, None, {"Authorization": None})[0] == 401


def test_foreign_hosts_and_origins_are_kept_out(served):
    port = urlsplit(served.url).port
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        for path in ("/status", "/mcp", "/health"):
            assert served.ask("GET", path, None, {"Host": host})[0] == 400
    assert served.ask("GET", "/status", None, {"Host": f"localhost:{port}"})[0] == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1", "file://"):
        for method, path in (("GET", "/status"), ("POST", "/train"), ("POST", "/mcp")):
            status, _, problem = served.ask(method, path, None, {"Origin": origin})
            assert (status, problem["type"]) == (403, "urn:bit-transformer:problem:foreign-origin")
    assert served.ask("GET", "/status", None, {"Origin": served.url})[0] == 200


def test_names_lead_nowhere_else(served):
    secret = served.root.parent / "secret"
    secret.write_text("the secret")
    (served.root / "outside").symlink_to(served.root.parent)
    (served.root / ".server" / "files" / "link").symlink_to(secret)
    bad = ["../secret", "..", ".", "a/b", "/etc/passwd", "..\\secret", "a\0b", ".hidden", "a" * 101]
    bad += ["link", "outside", "%2e%2e", "a\nb", "a\r\nSet-Cookie: x=1", "files;rm -rf", "é"]
    for name in bad:
        fields = [
            ("score", {"run": name, "text": "x"}),
            ("score", {"run": "one", "file": name}),
            ("compress", {"file": name, "out": "x"}),
            ("quantize", {"run": name, "out": "x"}),
            ("import_checkpoint", {"run": "x", "weights": name, "manifest": name}),
            ("train", {"data": {"sources": [name]}}),
            ("step", {"run": name}),
            ("push", {"run": name, "repo": "a/b"}),
        ]
        for operation, body in fields:
            status, _, problem = served.ask("POST", OPERATIONS[operation].path, body)
            assert status in (404, 422), (name, operation, problem)
            assert "the secret" not in str(problem)
    for name in ("../x", "a/b", ".x", "outside/../x", "a\r\nX: y"):
        for operation, body in [
            ("init", {"run": name}),
            ("compress", {"file": "text", "out": name}),
            ("quantize", {"run": "one", "out": name}),
            ("put_file", {"name": name, "text": "x"}),
            ("pull", {"run": name, "repo": "a/b"}),
        ]:
            assert served.ask("POST", OPERATIONS[operation].path, body)[0] == 422
    for source in ("hf:///etc", "hf://../..", "hf://a/../../etc", "-", "/etc/passwd", "*"):
        status, _, problem = served.ask("POST", "/train", {"data": {"sources": [source]}})
        assert status in (404, 422), problem
    assert sorted(path.name for path in served.root.parent.iterdir()) == ["runs", "secret"]


def test_addresses_lead_nowhere_else(served):
    escapes = ["..%2f..%2fsecret", "%2e%2e%2fsecret", "..%5csecret", "%2fetc%2fpasswd", "a%00b"]
    escapes += ["a%0d%0aSet-Cookie:%20x=1", "..", "../../../etc/passwd"]
    for name in escapes:
        for method in ("GET", "PUT", "DELETE"):
            body = b"x" if method == "PUT" else None
            status, headers, _ = served.ask(method, f"/files/{name}", body)
            assert status in (404, 405, 422), (method, name)
            assert "set-cookie" not in headers
        for path in (f"/runs/{name}", f"/jobs/{name}", f"/jobs/{name}/events", f"/review/{name}"):
            assert served.ask("GET", path)[0] in (404, 405, 422)
    names = [path.name for path in (served.root / ".server" / "files").iterdir()]
    assert names == ["text"]


def test_headers_cannot_be_injected(served):
    assert served.ask("PUT", "/files/a.b-c_d", b"x")[0] == 201
    _, headers, _ = served.ask("GET", "/files/a.b-c_d")
    assert headers["content-disposition"] == 'attachment; filename="a.b-c_d"'
    assert headers["x-content-type-options"] == "nosniff"
    lines = ["GET /status HTTP/1.1", f"Host: {_host(served)}", f"Authorization: Bearer {TOKEN}"]
    smuggled = "\r\n".join([*lines, "X: a\nSet-Cookie: b=c", "Connection: close", "", ""])
    assert b"set-cookie" not in _raw(served, smuggled.encode()).lower()


def test_large_bodies_are_refused(small):
    kind = {"Content-Type": "application/json"}
    status, _, problem = small.ask("POST", "/infer", b" " * 2001, kind)
    assert (status, problem["title"]) == (413, "Request Entity Too Large")
    assert "2,000 bytes" in problem["detail"]
    assert small.ask("POST", "/mcp", b" " * 2001, kind)[0] == 413
    assert small.ask("PUT", "/files/big", b" " * 4001)[0] == 413
    assert small.ask("PUT", "/files/fits", b" " * 4000)[0] == 201
    head = ["PUT /files/chunked HTTP/1.1", f"Host: {_host(small)}"]
    head += [f"Authorization: Bearer {TOKEN}", "Transfer-Encoding: chunked", "", ""]
    chunks = b"".join(b"3e8\r\n" + b"x" * 1000 + b"\r\n" for _ in range(5))
    answer = _raw(small, "\r\n".join(head).encode() + chunks)
    assert answer.startswith(b"HTTP/1.1 413")
    files = [path.name for path in (small.root / ".server" / "files").iterdir()]
    assert sorted(files) == ["fits", "text"]


def test_who_never_ends_a_request_s_head_is_let_go(runs, monkeypatch):
    monkeypatch.setattr(serve, "_HEADER_SECONDS", 0.5)
    with serving(runs, Limits(), launch_done) as served:
        assert _raw(served, b"GET /status HTTP/1.1\r\nHost: ") == b""


def test_who_never_ends_a_request_s_body_is_let_go(runs):
    with serving(runs, Limits(silence_seconds=0.5), launch_done) as served:
        head = ["POST /infer HTTP/1.1", f"Host: {_host(served)}", f"Authorization: Bearer {TOKEN}"]
        head += ["Content-Type: application/json", "Content-Length: 100", "", "{"]
        answer = _raw(served, "\r\n".join(head).encode())
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"came too slowly" in answer
        assert served.ask("GET", "/status")[0] == 200


def test_who_asks_too_often_is_told_to_wait(runs):
    with serving(runs, Limits(requests_per_second=0.01, burst=3), launch_done) as served:
        assert [served.ask("GET", "/status")[0] for _ in range(4)] == [200, 200, 200, 429]
        assert served.ask("GET", "/status")[1]["retry-after"] == "5"


def test_the_token_is_in_no_log_and_no_answer(runs, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with serving(runs, Limits(), launch_done) as served:
        for path in ("/status", "/nowhere", "/openapi.json", f"/runs/{TOKEN[:5]}"):
            _, headers, body = served.ask("GET", path)
            assert TOKEN not in f"{headers}{body}"
        served.ask("POST", "/infer", b"{", {"Content-Type": "application/json"})
    printed = capfd.readouterr()
    assert TOKEN not in caplog.text + printed.out + printed.err


def test_a_token_is_made_once_and_kept_from_others(tmp_path, monkeypatch):
    path = tmp_path / "token"
    made = serve.resolve_token(path, None)
    assert len(made) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert serve.resolve_token(path, None) == made
    assert serve.resolve_token(path, "another-token-of-mine") == "another-token-of-mine"
    assert path.read_text() == "another-token-of-mine\n"
    for weak in ("short", "has spaces in it, this one", "é" * 20):
        with pytest.raises(serve.ConfigError, match="visible ASCII characters"):
            serve.resolve_token(path, weak)
    path.chmod(0o644)
    with pytest.raises(serve.ConfigError, match="can be read by others"):
        serve.resolve_token(path, None)


def test_others_are_served_only_with_a_token_that_was_given(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("BIT_TRANSFORMER_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        words = ["serve", "--host", host, "--port", "0", "--runs", str(tmp_path / "runs")]
        assert main(words) == 2
        assert "can be reached by others" in capsys.readouterr().err


def test_an_address_that_is_taken_is_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--runs", str(tmp_path / "runs")]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_nothing_the_server_can_do_runs_what_it_is_given(served):
    _, _, document = served.ask("GET", "/openapi.json")
    words = " ".join(document["paths"]).lower()
    assert not any(word in words for word in ("exec", "eval", "shell", "install", "command"))


def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    server = subprocess.Popen(
        command("serve", "--port", "0", "--runs", str(tmp_path / "runs")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert server.stdout is not None
    first = server.stdout.readline()
    assert first.startswith(f"Serving {tmp_path / 'runs'} on http://127.0.0.1:")
    token = (tmp_path / "runs" / ".server" / "token").read_text().strip()
    server.terminate()
    rest = server.stdout.read()
    server.stdout.close()
    assert server.wait(10) in (0, 128 + signal.SIGTERM), rest
    assert token not in first + rest
    assert "Traceback" not in rest
