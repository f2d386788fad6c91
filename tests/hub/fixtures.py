"""Fixtures: a hub on this machine, an empty cache, and no wait between attempts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bit_transformer.hub import client
from tests.hub.fake_hub import GOOD_TOKEN, FakeHub, Running


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no hub, no token and an empty cache.

    Constants are replaced too, because the library reads its environment only at import.
    """
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Downloads are written in chunks of this size, which is small because the files are small.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 12)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(client, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(client, "_login", client._Login())
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture(scope="session")
def serving() -> Iterator[Running]:
    """Start the server that serves the hubs of all tests."""
    import huggingface_hub

    with Running() as running:
        yield running
        huggingface_hub.close_session()


@pytest.fixture
def hub(away: None, serving: Running, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """Return an empty hub, and set HF_TOKEN to a valid token for it."""
    empty = serving.new_hub()
    monkeypatch.setenv("HF_ENDPOINT", empty.url)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    return empty
