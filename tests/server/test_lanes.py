"""Requests for a state, and cancellations, do not wait behind requests that compute."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from bit_transformer.server.settings import Limits
from tests.server.conftest import EndedChild, launch_done, serving, wait_for

_LIMITS = Limits(computing=2, waiting=40, wait_seconds=60)


@pytest.fixture
def crowded(runs):
    """Yield a server whose compute slots are all taken, and a function that sends it requests."""
    with serving(runs, _LIMITS, lambda *_: EndedChild(None)) as served, ExitStack() as turns:
        for _ in range(_LIMITS.computing):
            turns.enter_context(served.engine.models.compute_slot())
        with ThreadPoolExecutor(60) as asking:

            def ask(body, path="/score"):
                return asking.submit(served.ask, "POST", path, {"run": "one", **body})

            yield served, ask
            turns.close()


def _seconds(served, method, path):
    began = time.monotonic()
    status, _, document = served.ask(method, path)
    assert status == 200, document
    return time.monotonic() - began


def _taken(served):
    return served.engine.models._request_slots._value


def test_health_status_and_cancel_answer_while_all_turns_are_taken(crowded):
    served, ask = crowded
    job = served.ask("POST", "/train", {"run": "two", "data": {"sources": ["text"]}})[2]["id"]
    waiting = [ask({"text": "to be"}) for _ in range(42)]
    wait_for(lambda: _taken(served) == 0)
    for method, path in [
        ("GET", "/health"),
        ("GET", "/status"),
        ("GET", f"/jobs/{job}"),
        ("POST", f"/jobs/{job}/cancel"),
        ("GET", "/runs"),
    ]:
        assert _seconds(served, method, path) < 10
    assert served.ask("GET", f"/jobs/{job}")[2]["state"] == "cancelled"
    assert not any(one.done() for one in waiting)


def test_who_finds_no_place_is_told_at_once(crowded):
    served, ask = crowded
    kept = [ask({"text": "to be"}) for _ in range(42)]
    wait_for(lambda: _taken(served) == 0)
    for path, body in (("/score", {"text": "x"}), ("/generate", {"new_bytes": 1})):
        status, headers, problem = served.ask("POST", path, {"run": "one", **body})
        assert status == 429
        assert "2 requests compute and 40 wait" in problem["detail"]
        assert headers["retry-after"] == "5"
    assert not any(one.done() for one in kept)


def test_a_stream_gives_its_place_back_when_its_reader_goes_away(runs):
    with serving(runs, Limits(computing=1, waiting=1), launch_done) as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
        headers = {
            "Authorization": "Bearer a-token-of-the-tests",
            "Content-Type": "application/json",
        }
        connection.request("POST", "/generate", b'{"run": "one", "new_bytes": 4000}', headers)
        answer = connection.getresponse()
        answer.readline()
        assert _taken(served) == 1
        answer.close()
        connection.close()
        wait_for(lambda: _taken(served) == 2)


def test_asking_for_health_needs_no_thread(runs):
    with serving(runs, Limits(), launch_done) as served:
        before = threading.active_count()
        for _ in range(20):
            assert served.ask("GET", "/health")[0] == 200
        assert threading.active_count() <= before
