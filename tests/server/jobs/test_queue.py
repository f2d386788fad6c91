"""Tests of the job queue: order, limits, one writer, and jobs whose process has died."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time

import pytest

from bit_transformer.errors import BusyError, ConflictError, QueueFullError, UnknownNameError
from bit_transformer.server.jobs.folder import JobFolder
from bit_transformer.server.jobs.queue import JobQueue
from bit_transformer.server.settings import Limits
from bit_transformer.server.workspace import open_workspace
from tests.server.conftest import EndedChild

HOLD = """
import fcntl, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


class Worker:
    """Starts processes that hold the locks of their jobs until they are killed."""

    def __init__(self):
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, workspace, job, secret):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(job.path / "lock")], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        state = dataclasses.replace(job.state(), state="running", started=1.0, pid=child.pid)
        job.write(state)
        self.children[job.path.name] = child
        return child

    def end(self):
        for child in self.children.values():
            child.kill()
            child.wait()


@pytest.fixture
def worker():
    found = Worker()
    yield found
    found.end()


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "runs")


def _submit(queue, writes=None):
    return queue.submit("train", {}, writes=writes, secret={}).id


def _wait_for(queue, job, state):
    deadline = time.monotonic() + 60
    while queue.state(job).state != state:
        assert time.monotonic() < deadline, queue.state(job)
        queue.poll()
        time.sleep(0.01)
    return queue.state(job)


def test_jobs_run_in_their_order_and_no_more_than_allowed(workspace, worker):
    queue = JobQueue(workspace, Limits(running=1), worker)
    first, second = _submit(queue), _submit(queue)
    queue.poll()
    assert [queue.state(one).state for one in (first, second)] == ["running", "queued"]
    worker.children[first].kill()
    assert _wait_for(queue, first, "failed").error == (
        "its process was ended by SIGKILL before the job was done"
    )
    _wait_for(queue, second, "running")
    assert [state.id for state in queue.states()] == [second, first]


def test_a_run_has_one_writer_and_the_refusal_names_it(workspace, worker):
    queue = JobQueue(workspace, Limits(), worker)
    owner = _submit(queue, "one")
    with pytest.raises(BusyError, match=owner) as refusal:
        _submit(queue, "one")
    assert refusal.value.owner == owner
    assert queue.owner("one").id == owner
    _submit(queue, "two")
    _submit(queue, None)
    queue.cancel(owner)
    assert queue.owner("one") is None
    _submit(queue, "one")


def test_the_queue_has_a_limit_and_names_it(workspace, worker):
    queue = JobQueue(workspace, Limits(queued=2), worker)
    for _ in range(2):
        _submit(queue)
    with pytest.raises(QueueFullError, match=r"at most 2 jobs may wait \(--queued\), and 2 do"):
        _submit(queue)
    queue.poll()
    _submit(queue)


def test_a_waiting_job_is_cancelled_at_once_and_never_starts(workspace, worker):
    queue = JobQueue(workspace, Limits(running=1), worker)
    running, waiting = _submit(queue), _submit(queue)
    queue.poll()
    assert queue.cancel(waiting).state == "cancelled"
    assert queue.cancel(waiting).state == "cancelled"
    worker.children[running].kill()
    _wait_for(queue, running, "failed")
    queue.poll()
    assert waiting not in worker.children


def test_jobs_are_found_again_with_their_processes(workspace, worker):
    before = JobQueue(workspace, Limits(running=2), worker)
    running, killed, waiting = (_submit(before) for _ in range(3))
    before.poll()
    worker.children[killed].kill()
    worker.children[killed].wait()
    after = JobQueue(workspace, Limits(running=2), worker)
    after.open()
    try:
        _wait_for(after, killed, "failed")
        assert after.state(killed).error == "its process is gone before the job was done"
        _wait_for(after, waiting, "running")
        assert after.state(running).state == "running"
        worker.children[running].kill()
        _wait_for(after, running, "failed")
    finally:
        after.close()


def test_a_process_that_ends_without_a_word_has_failed(workspace):
    queue = JobQueue(workspace, Limits(), lambda *_: EndedChild(3))
    job = _submit(queue)
    error = _wait_for(queue, job, "failed").error
    assert error == "its process ended with exit code 3 before the job was done"


def test_a_process_that_cannot_start_has_failed(workspace):
    def refuse(*_):
        raise OSError("out of processes")

    queue = JobQueue(workspace, Limits(), refuse)
    job = _submit(queue)
    assert "out of processes" in _wait_for(queue, job, "failed").error


def test_one_server_a_folder(workspace, worker):
    first, second = (JobQueue(workspace, Limits(), worker) for _ in range(2))
    first.open()
    with pytest.raises(ConflictError, match="another server has"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_of_the_jobs_that_are_over_the_newest_are_kept(workspace, worker):
    queue = JobQueue(workspace, Limits(running=1, jobs_kept=2), worker)
    running = _submit(queue)
    queue.poll()
    over = [_submit(queue) for _ in range(4)]
    for job in over:
        queue.cancel(job)
    shutil.rmtree(queue.job(over[1]).path)
    with queue.job(over[0]).locked():
        # The process of this job still holds its lock.
        queue.poll()
        assert [state.id for state in queue.states()] == [over[3], over[2], over[0], running]
    queue.poll()
    assert [state.id for state in queue.states()] == [over[3], over[2], running]
    with pytest.raises(UnknownNameError):
        queue.state(over[1])
    assert sorted(path.name for path in workspace.jobs.iterdir()) == [running, *over[2:]]
    assert queue.state(running).state == "running"


def test_unknown_jobs_are_named(workspace, worker):
    queue = JobQueue(workspace, Limits(), worker)
    for ask in (queue.state, queue.job, queue.cancel):
        with pytest.raises(UnknownNameError, match="there is no job 'x'"):
            ask("x")


def test_half_made_jobs_are_passed_over(workspace, worker):
    (workspace.jobs / "20260101T000000000000-abcdef").mkdir()
    queue = JobQueue(workspace, Limits(), worker)
    queue.open()
    assert queue.states() == []
    queue.close()


def test_no_zombies_stay(workspace):
    launched = []

    def launch(_, job, __):
        with job.locked():
            job.write(dataclasses.replace(job.state(), state="done"))
        launched.append(subprocess.Popen([sys.executable, "-c", ""]))
        return launched[-1]

    queue = JobQueue(workspace, Limits(), launch)
    _wait_for(queue, _submit(queue), "done")
    deadline = time.monotonic() + 60
    while queue._children:
        assert time.monotonic() < deadline
        queue.poll()
        time.sleep(0.01)
    with pytest.raises(ChildProcessError):
        os.waitpid(launched[0].pid, os.WNOHANG)


def test_a_lock_tells_who_lives(tmp_path, workspace, worker):
    queue = JobQueue(workspace, Limits(), worker)
    job = _submit(queue)
    queue.poll()
    folder = JobFolder(workspace.jobs / job)
    assert folder.end_unless_alive("failed", "gone").state == "running"
    with folder.locked() as held:
        assert not held
