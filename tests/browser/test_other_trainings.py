"""The dashboard shows trainings that are not jobs of the server."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.conftest import ROOT, TINY, Open, World, until
from tests.browser.test_first_visit import POINTS
from tests.browser.test_training import step_of


@pytest.fixture
def train_elsewhere(world: World) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Return a function that starts a long training on the command line, in the runs folder."""
    started = []

    def start(name: str) -> subprocess.Popen[bytes]:
        model = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
        data = str(world.runs / ".server" / "files" / "text")
        words = ["train", data, "--out", str(world.runs / name), *model]
        words += ["--steps", "100000", "--batch-size", "2", "--telemetry-every", "2"]
        with (world.runs.parent / "train.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bit_transformer", *words], cwd=ROOT, stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_training_of_the_command_line_is_drawn_live(
    open_page: Open, world: World, train_elsewhere: Callable[[str], Any]
) -> None:
    page = open_page()
    process = train_elsewhere("elsewhere")
    line = page.locator(".bt-run", has_text="elsewhere")
    line.click()
    page.get_by_role("heading", name="elsewhere", exact=True).wait_for()
    until(lambda: "training" in line.inner_text())
    until(lambda: step_of(page) >= 4)
    at, drawn = step_of(page), page.evaluate(POINTS)
    until(lambda: step_of(page) >= at + 4)
    until(lambda: all(now > was for now, was in zip(page.evaluate(POINTS), drawn, strict=True)))
    process.send_signal(signal.SIGKILL)
    until(lambda: "interrupted" in line.inner_text())
