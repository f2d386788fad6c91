"""The end of a job is reported once, even if the job was too short to be seen running."""

from typing import Any

from bit_transformer.server.dashboard.jobs_bar import FinishedJobs
from bit_transformer.server.dashboard.poller import Snapshot


def _snapshot(**states: str) -> Snapshot:
    jobs: list[dict[str, Any]] = [{"id": id, "state": state} for id, state in states.items()]
    return Snapshot(status={"features": {}}, jobs=jobs[::-1])


def _reported(finished: FinishedJobs, **states: str) -> list[str]:
    return [job["id"] for job in finished.newly_finished(_snapshot(**states))]


def test_jobs_that_ended_before_are_not_reported():
    finished = FinishedJobs()
    assert finished.newly_finished(Snapshot()) == []
    assert _reported(finished, old="done", waits="queued") == []
    assert _reported(finished, old="done", waits="running") == []
    assert _reported(finished, old="done", waits="failed") == ["waits"]
    assert _reported(finished, old="done", waits="failed") == []


def test_a_job_that_was_never_seen_running_is_reported():
    finished = FinishedJobs()
    assert _reported(finished) == []
    assert _reported(finished, first="failed", second="done") == ["first", "second"]
    assert _reported(finished, second="done") == []
