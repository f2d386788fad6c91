"""Records of a job are read while they are written."""

import asyncio
import json
from types import SimpleNamespace

from bit_transformer.server.jobs.log import JobLog, follow, last_progress


def _read(path, after, over):
    async def lines():
        return [line async for batch in follow(path, after, over) for line in batch]

    return asyncio.run(lines())


def test_lines_are_numbered_and_followed_from_anywhere(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = JobLog(path)
    for step in range(5):
        log.write("step", step=step)
    log.close()
    assert [number for number, _ in _read(path, 0, lambda: True)] == [1, 2, 3, 4, 5]
    assert [json.loads(line)["step"] for _, line in _read(path, 3, lambda: True)] == [3, 4]
    assert _read(path, 9, lambda: True) == []


def test_what_is_written_meanwhile_is_not_missed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    asked = []

    def over():
        asked.append(None)
        if len(asked) == 2:
            path.write_text('{"a": 1}\n{"a": 2}\n')
        return len(asked) > 2

    assert [line for _, line in _read(path, 0, over)] == ['{"a": 1}', '{"a": 2}']


def test_no_line_holds_what_browsers_cannot_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": NaN, "lr": Infinity, "text": "x"}\n')
    ((_, line),) = _read(path, 0, lambda: True)
    assert json.loads(line) == {"loss": None, "lr": None, "text": "x"}


def test_progress_says_how_long_the_rest_takes(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    clock = iter([10.0, 14.0])
    time = SimpleNamespace(monotonic=lambda: next(clock), time=lambda: 0.0)
    monkeypatch.setattr("bit_transformer.server.jobs.log.time", time)
    log = JobLog(path)
    log.progress("begin", 20, 100, "steps")
    log.progress("step", 40, 100, "steps")
    log.write("note")
    log.close()
    found = last_progress(path)
    assert (found["done"], found["seconds_left"]) == (40, 12.0)
    assert last_progress(tmp_path / "none") is None
