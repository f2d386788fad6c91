"""Tests of uploads and downloads, with the token of the form and with the token of the server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import World, new_context, shown, tab

pytest.importorskip("bit_transformer.hub")
fake_hub = pytest.importorskip("tests.hub.fake_hub")


@pytest.fixture
def hub() -> Iterator[Any]:
    """Yield an empty hub."""
    with fake_hub.Running() as running:
        yield running.new_hub()


def card(page: Any, heading: str) -> Any:
    """Return the card with this heading."""
    found = page.get_by_role("heading", name=heading, exact=True)
    return shown(page).locator(".bt-card", has=found)


def test_upload_and_download(
    hub: Any, browser: Any, elsewhere: Callable[..., World], tmp_path: Path
) -> None:
    more = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf")}
    world = elsewhere(more={**more, "HF_TOKEN": fake_hub.GOOD_TOKEN})
    world.start()
    context = new_context(browser)
    page = context.new_page()
    page.goto(world.url)
    # Clicks before the page is connected are lost.
    page.get_by_text("connected, ").wait_for()
    tab(page, "Models")
    up = card(page, "Upload to the hub")
    up.get_by_label("Repository").fill("me/mine")
    up.get_by_label("Token").fill("hf_wrong")
    up.get_by_role("button", name="Upload").click()
    page.get_by_text("Push failed").wait_for()
    up.get_by_label("Token").fill("")
    up.get_by_role("button", name="Upload").click()
    page.get_by_text("Push is done").wait_for()
    assert "me/mine" in hub.repositories
    down = card(page, "Download from the hub")
    down.get_by_label("Repository").fill("me/mine")
    down.get_by_label("Run").fill("two")
    down.get_by_role("button", name="Download").click()
    page.get_by_text("Pull: two is done").wait_for()
    assert (world.runs / "two").is_dir()
    written = [path for path in world.runs.parent.rglob("*") if path.is_file()]
    secrets = (b"hf_wrong", fake_hub.GOOD_TOKEN.encode())
    assert not any(secret in path.read_bytes() for path in written for secret in secrets)
    context.close()
