"""Ends of jobs are told once, however short the job was."""

from typing import Any

from bit_transformer.server.dashboard.jobs_strip import Ends
from bit_transformer.server.dashboard.pulse import Snapshot


def _snapshot(**states: str) -> Snapshot:
    jobs: list[dict[str, Any]] = [{"id": id, "state": state} for id, state in states.items()]
    return Snapshot(status={"features": {}}, jobs=jobs[::-1])


def _told(ends: Ends, **states: str) -> list[str]:
    return [job["id"] for job in ends.news(_snapshot(**states))]


def test_what_was_over_before_is_no_news():
    ends = Ends()
    assert ends.news(Snapshot()) == []
    assert _told(ends, old="done", waits="queued") == []
    assert _told(ends, old="done", waits="running") == []
    assert _told(ends, old="done", waits="failed") == ["waits"]
    assert _told(ends, old="done", waits="failed") == []


def test_a_job_that_was_never_seen_running_is_told():
    ends = Ends()
    assert _told(ends) == []
    assert _told(ends, first="failed", second="done") == ["first", "second"]
    assert _told(ends, second="done") == []
