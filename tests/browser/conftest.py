"""Fixtures that start a management server, a dashboard and a browser."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bit_transformer.bits.codec import bytes_to_bits
from bit_transformer.data.config import DataConfig
from bit_transformer.model.config import ModelConfig
from bit_transformer.safety.review import ReviewItem, ReviewQueue
from bit_transformer.training.config import EvaluationConfig, RunConfig, TrainConfig
from bit_transformer.training.fit import train_run
from tests.builders import SERVED_MODEL as TINY
from tests.builders import SERVED_TEXT as TEXT

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-that-no-browser-may-see"
KEY = "bit-transformer-dashboard"


def free_port() -> int:
    """Return a free port outside the range that the system hands out by itself."""
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("none of 100 ports is free")


@dataclass
class World:
    """A management server and a dashboard, each in its own process."""

    runs: Path
    server_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)
    """Additional environment variables."""
    words: tuple[str, ...] = ()
    """Additional arguments of the dashboard."""
    _server: subprocess.Popen[bytes] | None = None
    _dashboard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of the dashboard."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start both and wait until they answer."""
        self._dashboard = self._run("dashboard", "--port", str(self.port), *self.words)
        self.start_server()
        self._wait(self.url)

    def start_server(self) -> None:
        """Start the management server."""
        words = ("--port", str(self.server_port), "--runs", str(self.runs))
        self._server = self._run("serve", *words)
        self._wait(f"http://127.0.0.1:{self.server_port}/health")

    def stop_server(self) -> None:
        """Stop the management server."""
        _end(self._server)

    def stop(self) -> None:
        """Stop both."""
        _end(self._dashboard)
        _end(self._server)

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        # With pytest's variables set, NiceGUI would start in its test mode.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment |= {
            "BIT_TRANSFORMER_TOKEN": TOKEN,
            "MCP_SERVER_ADDR": f"http://127.0.0.1:{self.server_port}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **self.more,
        }
        with (self.runs.parent / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bit_transformer", *words],
                env=environment,
                cwd=self.runs.parent,
                stdout=log,
                stderr=log,
            )

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(url, timeout=5)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"nothing answers at {url}")


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runs folder with a run of 12 steps, a text file, and two items to review."""
    root = tmp_path_factory.mktemp("browser") / "runs"
    files = root / ".server" / "files"
    files.mkdir(parents=True)
    (files / "text").write_bytes(TEXT)
    config = RunConfig(
        data=DataConfig(sources=(str(files / "text"),)),
        model=ModelConfig(**TINY),  # type: ignore[arg-type]
        train=TrainConfig(steps=12, batch_size=4, device="cpu"),
        evaluation=EvaluationConfig(evaluate_every=6, telemetry_every=2),
    )
    train_run(config, root / "one", progress=False)
    for word in (b"first", b"second"):
        queue = ReviewQueue(root / ".server" / "review")
        bits = np.asarray(bytes_to_bits(word + b" output"), dtype=np.uint8)
        prompt = np.asarray(bytes_to_bits(b"prompt"), dtype=np.uint8)
        queue.put(ReviewItem(prompt, bits, ("C 0.10 is below its floor 0.30",), {"c": 0.1}))
    return root


@pytest.fixture(scope="package")
def world(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start one server and one dashboard for all tests of this folder."""
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium; scripts/install_chromium installs it")
    made = World(trained)
    try:
        made.start()
        yield made
    finally:
        made.stop()


# Playwright's event loop runs while the browser is open, and other tests need their own loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start the installed Chromium."""
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium; scripts/install_chromium installs it")
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


def new_context(browser: Any, **more: Any) -> Any:
    """Return a context without stored data, with time to compile code at its first use."""
    context = browser.new_context(**more)
    context.set_default_timeout(150_000)
    return context


Open = Callable[..., Any]


@pytest.fixture
def open_page(world: World, browser: Any) -> Iterator[Open]:
    """Return a function that opens the dashboard. At the end, fail if a page had a script error."""
    contexts, errors = [], []

    def opened(width: int = 1280, stored: object = None, **more: Any) -> Any:
        context = new_context(browser, viewport={"width": width, "height": 900}, **more)
        if stored is not None:
            text = stored if isinstance(stored, str) else json.dumps(stored)
            setting = f"localStorage.setItem({json.dumps(KEY)}, {json.dumps(text)})"
            context.add_init_script(f"if (!localStorage.length) {setting}")
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(world.url)
        page.get_by_text("connected, ").wait_for()
        contexts.append(context)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


def tab(page: Any, name: str) -> None:
    """Open a tab and wait until it is shown."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.locator(f'main > .q-tab-panels > div > .q-tab-panel[aria-label="{name}"]').wait_for()


def fill(page: Any, label: str, value: str) -> None:
    """Type into a field of the visible tab, and move the focus away."""
    box = shown(page).get_by_label(label, exact=True)
    box.fill(value)
    box.press("Tab")


def shown(page: Any) -> Any:
    """Return the visible tab panel."""
    return page.locator("main > .q-tab-panels > div > .q-tab-panel:visible")


def until(what: Callable[[], Any], seconds: float = 150) -> Any:
    """Wait until `what` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not true after {seconds} seconds"
        time.sleep(0.1)
    return found


@pytest.fixture
def elsewhere(trained: Path, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Return a function that makes a world with a copy of the trained run, which is not started."""
    made: list[World] = []

    def make(**more: Any) -> World:
        runs = tmp_path / "runs"
        shutil.copytree(trained / "one", runs / "one")
        made.append(World(runs, **more))
        return made[-1]

    yield make
    for world in made:
        world.stop()
