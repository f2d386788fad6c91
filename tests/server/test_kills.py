"""Server and workers are killed at random moments.

No job is lost or shown in a wrong state, and no checkpoint is damaged.
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.errors import BitTransformerError
from bit_transformer.server.client import Client
from bit_transformer.server.operations import OPERATIONS
from tests.server.conftest import TINY, command, wait_for

KILLS = 20
TRAIN = {"steps": 10**6, "batch_size": 2, "evaluate_bytes": 256, "evaluate_every": 0}
TRAIN |= {"checkpoint_every": 5, "schedule": "constant", "device": "cpu", "telemetry_every": 0}


class Victim:
    """A server in a process of its own, and the jobs that were submitted to it."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.asked: dict[str, str] = {}
        self.killed: set[str] = set()
        self.start()

    def start(self) -> None:
        words = ("serve", "--port", "0", "--running", "2", "--runs", str(self.runs))
        environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        url = self.process.stdout.readline().split(" on ")[1].split(",")[0]
        self.client = Client(url, (self.runs / ".server" / "token").read_text().strip())

    def ask(self, operation: str, **fields):
        return self.client.call(OPERATIONS[operation], fields)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def jobs(self) -> dict[str, dict]:
        return {job["id"]: job for job in self.ask("list_jobs", limit=1000)["jobs"]}

    def keep_busy(self) -> None:
        """Submit jobs until three are queued or running."""
        missing = 3 - sum(job["ended"] is None for job in self.jobs().values())
        for _ in range(missing):
            run = f"run{len(self.asked)}"
            fields = {"data": {"sources": ["text"]}, "model": TINY, "train": TRAIN}
            self.asked[self.ask("train", run=run, **fields)["id"]] = run

    def kill_a_worker(self, chance: random.Random) -> None:
        chosen = self.runs / ".server" / "jobs" / chance.choice(self.alive()) / "state.json"
        os.kill(json.loads(chosen.read_text())["pid"], signal.SIGKILL)
        self.killed.add(chosen.parent.name)

    def check(self) -> None:
        """Check that no job is lost, and that only jobs whose process was killed have failed."""
        found = self.jobs()
        assert found.keys() == self.asked.keys()
        for identity, job in found.items():
            if identity in self.killed:
                assert job["state"] in ("running", "failed"), job
            else:
                assert job["state"] in ("queued", "running"), job
            assert job["run"] == self.asked[identity]

    def settle(self) -> None:
        wait_for(lambda: all(self.jobs()[one]["state"] == "failed" for one in self.killed))

    def has_something_to_kill(self) -> bool:
        return len(self.alive()) == 2

    def alive(self) -> list[str]:
        """Return running jobs. A job that was just killed may still be shown as running."""
        running = {one for one, job in self.jobs().items() if job["state"] == "running"}
        return sorted(running - self.killed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_jobs_survive_whatever_is_killed(tmp_path):
    chance, victim = random.Random(0), Victim(tmp_path / "runs")
    (tmp_path / "runs" / ".server" / "files" / "text").write_text("to be or not to be\n" * 400)
    try:
        for _ in range(KILLS):
            victim.keep_busy()
            if chance.random() < 0.5:
                # The kill may come at any moment, also while jobs are being started.
                time.sleep(chance.random() * 4)
                victim.kill()
                victim.start()
            else:
                wait_for(victim.has_something_to_kill, 60)
                time.sleep(chance.random())
                victim.kill_a_worker(chance)
            victim.check()
        victim.settle()
        victim.check()
        assert len(victim.killed) >= KILLS // 4
        _end_well(victim)
    finally:
        for job in (victim.runs / ".server" / "jobs").iterdir():
            pid = json.loads((job / "state.json").read_text())["pid"]
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        victim.kill()


def _end_well(victim: Victim) -> None:
    """Cancel unfinished jobs, check that all checkpoints load, and resume a killed run."""
    for identity, job in victim.jobs().items():
        if job["ended"] is None:
            victim.ask("cancel_job", job=identity)
    wait_for(lambda: all(job["ended"] for job in victim.jobs().values()), 120)
    states = {job["state"] for job in victim.jobs().values()}
    assert states == {"failed", "cancelled"}
    trained = []
    for run in victim.runs.glob("run*"):
        for checkpoint in run.glob("checkpoints/step-*"):
            assert load_checkpoint(checkpoint, training=True).training_state is not None
            trained.append(run.name)
    assert trained
    went_on = victim.ask("step", run=trained[0], steps=1)["id"]
    wait_for(lambda: victim.jobs()[went_on]["ended"] is not None, 60)
    assert victim.jobs()[went_on]["state"] == "done", victim.jobs()[went_on]
    with pytest.raises(BitTransformerError):
        victim.ask("step", run="none", steps=1)
