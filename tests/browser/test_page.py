"""Tests of the page: secrets, stored preferences, phones, keyboards and other sites."""

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import KEY, TOKEN, Open, World, fill, new_context, shown, tab, until

TABS = ("Runs", "Train", "Ask", "Review", "Files", "Models")


def test_loads_nothing_from_other_hosts(open_page: Open, world: World, browser: Any) -> None:
    context = new_context(browser)
    page, asked, told = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda ws: ws.on("framereceived", lambda data: told.append(str(data))))
    page.goto(world.url)
    page.get_by_text("connected, ").wait_for()
    page.get_by_role("heading", name="Samples").wait_for()
    for name in TABS:
        tab(page, name)
    here = urlsplit(world.url).netloc
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {here}
    # Playwright delivers received frames only while it handles a call.
    until(lambda: page.title() and len(told) > 3)
    assert not any(TOKEN in text for text in [*told, page.content(), *asked])
    context.close()


NAMELESS = """() => [...document.querySelectorAll('button, [role=button], input, textarea, select')]
.filter(e => e.offsetParent && !e.disabled && e.type !== 'file').filter(e => {
  const label = e.closest('label') || (e.id && document.querySelector(`label[for="${e.id}"]`));
  return !(e.getAttribute('aria-label') || e.textContent.trim() || e.title ||
           (label && label.textContent.trim()) || e.closest('[aria-label]'))
}).map(e => e.outerHTML.slice(0, 200))"""


def test_controls_have_names_and_nothing_overflows(open_page: Open) -> None:
    page = open_page()
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for name in TABS:
            tab(page, name)
            assert page.evaluate(NAMELESS) == [], name
            until(lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_can_be_used_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.get_by_role("tab", name="Train").focus()
    page.keyboard.press("Enter")
    switch = page.get_by_role("switch", name="Reversible")
    switch.focus()
    page.keyboard.press("Space")
    until(lambda: switch.get_attribute("aria-checked") == "true")


def test_preferences_persist_without_secrets(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    tab(page, "Train")
    fill(page, "Steps", "77")
    page.get_by_role("switch", name="Checkpointing").click()
    tab(page, "Models")
    shown(page).get_by_label("Token").first.fill("hf_secret_of_mine")
    page.get_by_role("button", name="Switch between light and dark").click()
    kept = ('"train.steps":77', '"parallel.use_checkpoint":true', '"tab":"hub"', '"dark":true')
    until(lambda: all(words in _stored(page) for words in kept))
    assert "hf_secret" not in _stored(page)
    page.reload()
    page.get_by_text("connected, ").wait_for()
    assert "body--dark" in page.locator("body").get_attribute("class")
    assert shown(page).get_by_label("Token").first.input_value() == ""
    tab(page, "Train")
    assert shown(page).get_by_label("Steps", exact=True).input_value() == "77"
    checked = page.get_by_role("switch", name="Checkpointing").get_attribute("aria-checked")
    assert checked == "true"


def test_invalid_stored_preferences_are_ignored(open_page: Open) -> None:
    forms = {"train": {"train.steps": "many", "no.such": 1, "model.d_model": True}}
    page = open_page(stored={"tab": "nowhere", "run": "../..", "forms": forms})
    tab(page, "Train")
    assert shown(page).get_by_label("Steps", exact=True).input_value() == "600"


def _stored(page: Any) -> str:
    return str(page.evaluate("key => localStorage.getItem(key)", KEY))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"])
def test_other_sites_are_refused(
    world: World, headers: dict[str, str], status: int, path: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
    connection.request("GET", path, headers=headers)
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_websockets_of_other_sites_are_refused(world: World, origin: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Origin": origin,
    }
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    connection.request("GET", path, headers=headers)
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.slow
def test_a_password_guards_page_and_websocket(
    browser: Any, elsewhere: Callable[..., World]
) -> None:
    world = elsewhere(words=("--password", "open sesame"))
    world.start()
    context = new_context(browser)
    page = context.new_page()
    assert page.goto(world.url).status == 401
    for password in ("guess", "open sesame"):
        page.get_by_label("Password of this dashboard").fill(password)
        page.get_by_role("button", name="Log in").click()
        if password == "guess":
            page.get_by_text("The password is wrong.").wait_for()
    page.get_by_text("connected, ").wait_for()
    assert "sesame" not in page.content()
    context.close()
