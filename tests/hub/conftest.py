"""A hub on this machine, an empty cache, and no waiting between attempts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bit_transformer import BitTransformerLM
from bit_transformer.cli.main import main
from bit_transformer.hub import client
from tests.builders import tiny_model
from tests.hub.fake_hub import GOOD_TOKEN, FakeHub, Running


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, no token, an empty cache; the library reads its environment once, at import."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # What is written down of a download, at a time: the files here are small.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 12)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(client, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(client, "_of_this_process", [])
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def hub(away: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that is there; this machine has a token for it."""
    import huggingface_hub

    with Running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
        yield running
        huggingface_hub.close_session()


@pytest.fixture
def model() -> BitTransformerLM:
    """Small, with random weights."""
    return tiny_model()


@pytest.fixture
def folder(model: BitTransformerLM, tmp_path: Path) -> Path:
    """A checkpoint folder of it."""
    return model.save_pretrained(tmp_path / "model", step=3, held_out_bits_per_byte=2.5)


TINY = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--dim-feedforward", "32"]
TINY += ["--max-seq-len", "256", "--memory-slots", "256", "--memory-width", "4", "--device", "cpu"]
TINY += ["--batch-size", "2", "--evaluate-every", "0"]
"""Settings of a run of a second."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """110 kB, in a folder whose name is nobody's business."""
    path = tmp_path_factory.mktemp("secret folder") / "corpus.txt"
    path.write_text("to be or not to be, that is the question\n" * 2650)
    return path


@pytest.fixture(scope="session")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, with a calibrated gate."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    words = ["train", str(corpus), "--out", str(folder), "--held-out-fraction", "0.5", *TINY]
    assert main([*words, "--steps", "4", "--telemetry-every", "2"]) == 0
    return folder
