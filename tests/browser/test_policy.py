"""Tests of the content security policy, for scripts of the page and for other sites."""

import http.client
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open, World, fill, new_context, shown, tab, until


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/nowhere", 404),
        ("/download/none", 502),
        ("/download/text", 200),
        ("/download/%2e%2e", 422),
        ("/favicon.ico", 200),
        ("/_nicegui_ws/socket.io/?EIO=4&transport=polling", 200),
        ("/_nicegui_ws/socket.io/?EIO=4&transport=nothing", 400),
    ],
)
def test_every_response_forbids_frames_and_content_sniffing(
    world: World, path: str, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    found = {name.lower(): value for name, value in answer.getheaders()}
    policies = [v for name, v in answer.getheaders() if name.lower() == "content-security-policy"]
    connection.close()
    assert answer.status == status
    assert found["x-frame-options"] == "DENY"
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "same-origin"
    assert all("frame-ancestors 'none'" in policy for policy in policies)
    assert "server" not in found
    if path == "/":
        assert any("script-src 'self' 'nonce-" in policy for policy in policies)
    if path == "/download/text":
        assert any("sandbox" in policy for policy in policies)
        assert found["content-disposition"].startswith("attachment")


def test_the_page_complies_with_its_own_policy(
    open_page: Open, world: World, tmp_path: Path
) -> None:
    page = open_page(stored={"tab": "runs"})
    told: list[str] = []
    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.reload()
    page.get_by_text("connected, ").wait_for()
    until(lambda: page.locator(".bt-charts canvas").count() == 4)
    page.get_by_role("button", name="Switch between light and dark").click()
    tab(page, "Ask")
    fill(page, "Prompt", "to <b>be</b> <script>document.title='taken'</script>")
    shown(page).get_by_role("button", name="Generate").first.click()
    page.get_by_text("bits of surprisal").first.wait_for()
    tab(page, "Files")
    path = tmp_path / "painted.html"
    path.write_text("<script>document.title='taken'</script>")
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_text("painted.html").first.wait_for()
    until(lambda: (world.runs / ".server" / "files" / "painted.html").exists())
    for name in ("Train", "Review", "Models"):
        tab(page, name)
    assert page.title() == "BitTransformerLM"
    wrong = [line for line in told if "Content Security Policy" in line or line.startswith("error")]
    assert wrong == []


def test_a_script_that_was_not_on_the_page_does_not_run(open_page: Open) -> None:
    page = open_page()
    page.evaluate(
        """() => { const script = document.createElement('script');
        script.textContent = "document.title = 'taken'"; document.body.append(script);
        const box = document.createElement('div');
        box.innerHTML = '<img src="data:," onerror="document.title = `taken`">';
        document.body.append(box); }"""
    )
    page.wait_for_timeout(500)
    assert page.title() == "BitTransformerLM"


def test_no_other_site_can_frame_the_page(world: World, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f'<iframe src="{world.url}"></iframe>')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        context = new_context(browser)
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        until(lambda: page.title() is not None and any("frame" in text for text in refused), 20)
        assert all(frame.url != world.url for frame in page.frames)
        context.close()
        other.shutdown()
