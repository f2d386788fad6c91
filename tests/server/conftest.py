"""Fixtures: a tiny trained run, and servers with real jobs or with jobs that end at once."""

import contextlib
import dataclasses
import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bit_transformer.data.config import DataConfig
from bit_transformer.model.config import ModelConfig
from bit_transformer.server.jobs.folder import JobFolder
from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.jobs.queue import Launch, launch_worker
from bit_transformer.server.operations.registry import Engine
from bit_transformer.server.serve import Address, make_engine, make_server
from bit_transformer.server.settings import Limits
from bit_transformer.server.workspace import Workspace
from bit_transformer.training.config import EvaluationConfig, RunConfig, TrainConfig
from bit_transformer.training.fit import train_run
from tests.builders import SERVED_MODEL as TINY
from tests.builders import SERVED_TEXT as TEXT

TOKEN = "a-token-of-the-tests"


class EndedChild(subprocess.Popen[bytes]):
    """A process that ended at once. With the exit code None, it runs and never does anything."""

    def __init__(self, returncode: int | None = 0) -> None:
        self.returncode = returncode

    def poll(self) -> int | None:
        return self.returncode

    def __del__(self) -> None:
        pass


def launch_done(workspace: Workspace, job: JobFolder, secret: Mapping[str, str]) -> EndedChild:
    """Mark the job as done at once, and start no process."""
    log = JobLog(job.metrics)
    log.progress("begin", 0, 1, "steps")
    log.progress("step", 1, 1, "steps", step=1, loss=1.0)
    log.close()
    with job.locked() as held:
        assert held
        now = time.time()
        state = dataclasses.replace(job.state(), state="done", started=now, ended=now, result={})
        job.write(state)
    return EndedChild()


@dataclasses.dataclass
class Served:
    """A running server."""

    url: str
    engine: Engine
    root: Path

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str | None] = {},
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request and return (status, headers, document). A header of None is left out."""
        place = urlsplit(self.url)
        sent: dict[str, str | None] = {"Authorization": f"Bearer {TOKEN}", **headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        with contextlib.closing(connection):
            given = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            content = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in found.get("content-type", "")
            return answer.status, found, json.loads(content) if is_json else content

    def ended(self, job: str, seconds: float = 150) -> dict[str, Any]:
        """Wait for a job to end and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _, _, document = self.ask("GET", f"/jobs/{job}")
            if document["state"] in ("done", "failed", "cancelled"):
                return document
            time.sleep(0.1)
        raise AssertionError(f"the job is not over after {seconds} s: {document}")

    def reached(self, job: str, steps: int, seconds: float = 150) -> None:
        """Wait until a training has done this many steps."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _, _, document = self.ask("GET", f"/jobs/{job}")
            if (document["progress"] or {"done": 0})["done"] >= steps:
                return
            time.sleep(0.05)
        raise AssertionError(f"the training has fewer steps after {seconds} s: {document}")


@contextlib.contextmanager
def serving(root: Path, limits: Limits, launch: Launch = launch_worker) -> Iterator[Served]:
    """Run a server on a free port, in a thread."""
    engine = make_engine(root, limits, launch)
    engine.jobs.open()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        server, url = make_server(engine, Address(), listener, TOKEN)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Served(url, engine, root)
        finally:
            server.should_exit = True
            thread.join()
            engine.jobs.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a few steps. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("trained")
    data = folder / "text"
    data.write_bytes(TEXT)
    config = RunConfig(
        data=DataConfig(sources=(str(data),)),
        model=ModelConfig(**TINY),  # type: ignore[arg-type]
        train=TrainConfig(steps=12, batch_size=4, device="cpu"),
        evaluation=EvaluationConfig(evaluate_every=6),
    )
    train_run(config, folder / "one", progress=False)
    return folder / "one"


@pytest.fixture
def runs(tmp_path: Path, trained: Path) -> Path:
    """Return a runs folder with the trained run, and its text as an uploaded file."""
    root = tmp_path / "runs"
    shutil.copytree(trained, root / "one")
    files = root / ".server" / "files"
    files.mkdir(parents=True)
    (files / "text").write_bytes(TEXT)
    config = json.loads((root / "one" / "config.json").read_text())
    config["data"]["sources"] = [str(files / "text")]
    (root / "one" / "config.json").write_text(json.dumps(config))
    return root


@pytest.fixture
def engine(runs: Path) -> Iterator[Engine]:
    """Yield an engine whose jobs end at once."""
    made = make_engine(runs, Limits(), launch_done)
    made.jobs.open()
    yield made
    made.jobs.close()


@pytest.fixture
def served(runs: Path) -> Iterator[Served]:
    """Run a server whose jobs end at once."""
    with serving(runs, Limits(), launch_done) as found:
        yield found


@pytest.fixture
def working(runs: Path) -> Iterator[Served]:
    """Run a server that starts a process for each job."""
    with serving(runs, Limits()) as found:
        yield found


def wait_for(what: Callable[[], bool], seconds: float = 150) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def command(*words: str) -> list[str]:
    """Return the command that runs the command line in a process of its own."""
    return [sys.executable, "-m", "bit_transformer", *words]
