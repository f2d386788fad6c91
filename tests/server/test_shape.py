"""Bodies that are made to keep the server busy are refused quickly, with a short answer."""

import json
import shutil
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.server.access.shape import MAX_DEPTH, MAX_VALUES, check_shape
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.settings import Limits
from tests.server.conftest import launch_done, serving

_JSON = {"Content-Type": "application/json"}
_MCP = _JSON | {"Accept": "application/json, text/event-stream"}
_MEGABYTE = 1_000_000
_POSTS = [one.path for one in OPERATIONS.values() if one.method == "POST" and "{" not in one.path]


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    """Run one server for all tests of this file. They do not change anything."""
    root = tmp_path_factory.mktemp("shape") / "runs"
    shutil.copytree(trained, root / "one")
    (root / ".server" / "files").mkdir(parents=True)
    (root / ".server" / "files" / "text").write_bytes(b"to be or not to be " * 400)
    with serving(root, Limits(), launch_done) as found:
        yield found


def _tool_call(arguments):
    params = {"name": "infer", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


_MANY_KEYS = {f"key{i}": i for i in range(50_000)}
_HOSTILE = {
    "keys": json.dumps(_MANY_KEYS),
    "list": json.dumps({"data": {"sources": ["x"] * 200_000}}),
    "empty lists": "[" + ",".join(["[]"] * 300_000) + "]",
    "deep list": "[" * 400_000 + "]" * 400_000,
    "deep object": '{"a":' * 150_000 + "1" + "}" * 150_000,
    "never closed": "[" * 900_000,
    "keys in a tool's arguments": json.dumps(_tool_call(_MANY_KEYS)),
    "a batch of calls": json.dumps([_tool_call({})] * 9_000),
}


@pytest.mark.parametrize("name", list(_HOSTILE))
@pytest.mark.parametrize("path", ["/infer", "/train", "/mcp"])
def test_hostile_bodies_cost_nothing(served, name, path):
    body = _HOSTILE[name].encode()
    assert len(body) > 600_000
    began = time.monotonic()
    status, _, problem = served.ask("POST", path, body, _MCP if path == "/mcp" else _JSON)
    assert status in (400, 413), problem
    assert len(json.dumps(problem)) < 2000
    assert time.monotonic() - began < 5


def test_others_are_answered_meanwhile(served):
    body = _HOSTILE["keys"].encode()
    ended = threading.Event()

    def attack():
        while not ended.is_set():
            served.ask("POST", "/infer", body, _JSON)

    attackers = [threading.Thread(target=attack) for _ in range(2)]
    for one in attackers:
        one.start()
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert served.ask("GET", "/health")[0] == 200
        slowest = max(slowest, time.monotonic() - began)
    ended.set()
    for one in attackers:
        one.join()
    assert slowest < 5


@pytest.mark.parametrize("path", _POSTS)
def test_the_answer_about_wrong_fields_is_short(served, path):
    wrong = {f"{'k' * 300}{i}": "v" * 100 for i in range(1900)}
    status, headers, problem = served.ask("POST", path, wrong)
    assert status == 422, problem
    assert int(headers["content-length"]) < 8000
    assert len(problem["fields"]) == 10
    assert problem["wrong_fields"] >= 1900
    assert "more)" in problem["detail"]


def test_tools_answer_shortly_too(served):
    for arguments in ({f"{'k' * 300}{i}": 1 for i in range(1900)}, {"run": "x" * 900_000}):
        _, _, answer = served.ask("POST", "/mcp", _tool_call(arguments), _MCP)
        assert len(json.dumps(answer) if isinstance(answer, dict) else answer) < 8000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/train", {"data": {"sources": ["hf://" + "x" * 900_000]}}),
        ("/train", {"data": {"sources": ["x" * 900_000]}}),
        ("/train", {"train": {"memory_budget": "x" * 900_000}}),
        ("/train", {"train": {"device": "x" * 900_000}}),
        ("/train", {"model": {"x" * 900_000: 1}}),
        ("/infer", {"run": "x" * 900_000}),
        ("/infer", {"prompt": "x" * 900_000}),
        ("/infer", {"sampling": {"x" * 900_000: 1}}),
        ("/push", {"run": "one", "repo": "x" * 900_000}),
        ("/files", {"name": "x", "base64": "!" * 200_000}),
    ],
)
def test_long_strings_are_not_sent_back(served, path, body):
    status, headers, problem = served.ask("POST", path, body)
    assert status in (202, 404, 422), problem
    assert int(headers["content-length"]) < 5000


def test_long_addresses_are_not_sent_back(served):
    address = "&".join(f"k{i}=1" for i in range(6000))
    status, headers, problem = served.ask("GET", f"/metrics?{address}")
    assert status == 400
    assert "at most 100 parameters, got 6,000" in problem["detail"]
    for path in ("/runs/" + "x" * 30_000, "/nowhere/" + "x" * 30_000):
        status, headers, _ = served.ask("GET", path)
        assert status in (404, 422)
        assert int(headers["content-length"]) < 5000


@pytest.mark.parametrize("body", [b"\0\x89PNG", b"[" * 900, b"{}"])
def test_a_wrong_method_or_address_is_named_before_the_body_is_looked_at(served, body):
    status, headers, _ = served.ask("POST", "/files/0", body, {"Content-Type": "image/png"})
    assert (status, set(headers["allow"].split(", "))) == (405, {"DELETE", "GET", "PUT"})
    assert served.ask("POST", "/nowhere", body)[0] == 404
    assert served.ask("GET", "/nowhere?" + "&" * 200)[0] == 404


def test_what_is_meant_passes(served):
    sources = ["text"] * 500
    body = {"run": "two", "data": {"sources": sources}, "model": {"d_model": 16, "nhead": 2}}
    assert check_shape(json.dumps(body).encode()) is None
    text = '{"[,' * 60_000
    assert served.ask("POST", "/score", {"run": "one", "text": text})[0] == 200


@given(st.text(max_size=200), st.integers(0, 60))
def test_strings_count_as_one_value_whatever_is_in_them(text, depth):
    assert check_shape(json.dumps({"a": text + "[{," * 3000, text: ['\\"', "\\"]}).encode()) is None
    nested = json.dumps([text]).encode().join([b"[" * depth, b"]" * depth])
    assert (check_shape(nested) is None) == (depth + 1 <= MAX_DEPTH)
    many = json.dumps([text] * (MAX_VALUES + 10)).encode()
    found = check_shape(many)
    assert found is not None
    assert found.status == 413


def test_other_encodings_are_refused(served):
    body = json.dumps({"prompt": "x"}).encode("utf-16")
    status, _, problem = served.ask("POST", "/infer", body, _JSON)
    assert (status, "UTF-8" in problem["detail"]) == (400, True)
