"""Server jobs push to and pull from a fake hub, and never reveal a bad token."""

import json
from contextlib import closing

import pytest

fixtures = pytest.importorskip("tests.hub.fixtures")
fake_hub = pytest.importorskip("tests.hub.fake_hub")

from bit_transformer.errors import BitTransformerError  # noqa: E402 -- after the skips
from bit_transformer.server.jobs.log import JobLog  # noqa: E402
from bit_transformer.server.jobs.work import Work  # noqa: E402
from bit_transformer.server.operations import OPERATIONS  # noqa: E402
from tests.server.conftest import engine, runs, trained  # noqa: E402, F401 -- fixtures

away, hub, serving = fixtures.away, fixtures.hub, fixtures.serving


def _do(engine, name, **fields):  # noqa: F811
    operation = OPERATIONS[name]
    prepared = operation.prepare(engine, operation.request.model_validate(fields))
    stored = json.loads(json.dumps(prepared.request.model_dump(mode="json")))
    told = engine.workspace.root / "told.jsonl"
    with closing(JobLog(told)) as log:
        work = Work(engine.workspace, log, prepared.secrets)
        result = operation.run(work, operation.stored_request(stored))
    return result, told.read_text()


def test_a_run_goes_to_the_hub_and_comes_back(engine, hub):  # noqa: F811
    repo, token = "me/model", fake_hub.GOOD_TOKEN
    pushed, told = _do(engine, "push", run="one", repo=repo, token=token)
    assert pushed.bytes > 0
    assert json.loads(told.splitlines()[-1])["total"] > 0
    assert token not in told
    _do(engine, "pull", run="two", repo=repo)
    _do(engine, "download_checkpoint", run="three", repo=repo)
    one, two, three = (
        OPERATIONS["score"].run(
            engine, OPERATIONS["score"].request.model_validate({"run": run, "text": "to be"})
        )
        for run in ("one", "two", "three")
    )
    assert one.bits_per_byte == two.bits_per_byte == three.bits_per_byte
    assert engine.workspace.run("two").config().model == engine.workspace.run("one").config().model


def test_a_bad_token_fails_in_words_that_do_not_hold_it(engine, hub):  # noqa: F811
    token = "hf_a_token_that_is_wrong"
    with pytest.raises(BitTransformerError) as refusal:
        _do(engine, "push", run="one", repo="me/model", token=token)
    assert token not in str(refusal.value)
