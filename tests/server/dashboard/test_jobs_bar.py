"""FinishedJobs of jobs are told once, however short the job was."""

from typing import Any

from bit_transformer.server.dashboard.jobs_bar import FinishedJobs
from bit_transformer.server.dashboard.poller import Snapshot


def _snapshot(**states: str) -> Snapshot:
    jobs: list[dict[str, Any]] = [{"id": id, "state": state} for id, state in states.items()]
    return Snapshot(status={"features": {}}, jobs=jobs[::-1])


def _told(ends: FinishedJobs, **states: str) -> list[str]:
    return [job["id"] for job in ends.newly_finished(_snapshot(**states))]


def test_what_was_over_before_is_no_news():
    ends = FinishedJobs()
    assert ends.newly_finished(Snapshot()) == []
    assert _told(ends, old="done", waits="queued") == []
    assert _told(ends, old="done", waits="running") == []
    assert _told(ends, old="done", waits="failed") == ["waits"]
    assert _told(ends, old="done", waits="failed") == []


def test_a_job_that_was_never_seen_running_is_told():
    ends = FinishedJobs()
    assert _told(ends) == []
    assert _told(ends, first="failed", second="done") == ["first", "second"]
    assert _told(ends, second="done") == []
