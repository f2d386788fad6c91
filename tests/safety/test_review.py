"""An item is decided once, and nothing is released by accident."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bit_transformer.errors import ReviewError, StorageError
from bit_transformer.safety.review import ReviewItem, ReviewQueue


def _item(output: bytes = b"output") -> ReviewItem:
    prompt, bits = (np.unpackbits(np.frombuffer(d, np.uint8)) for d in (b"prompt", output))
    return ReviewItem(prompt, bits[:-3], ("C below its floor",), {"readings": {"c": 0.1}})


@pytest.fixture
def queue(tmp_path):
    return ReviewQueue(tmp_path / "queue")


def test_an_item_comes_back_as_it_was(queue):
    identity = queue.put(_item())
    found = queue.show(identity)
    assert np.array_equal(found.output, _item().output)
    assert np.array_equal(found.prompt, _item().prompt)
    assert found.reasons == _item().reasons
    assert found.telemetry == _item().telemetry
    assert found.as_bytes(found.output) == b"outpu"
    assert queue.identities() == [identity]


def test_an_approved_item_is_released_once(queue):
    identity = queue.put(_item())
    assert queue.approve(identity).as_bytes(_item().prompt) == b"prompt"
    assert queue.state_of(identity) == "approved"
    for decide in (queue.approve, queue.reject):
        with pytest.raises(ReviewError, match="was approved before"):
            decide(identity)


def test_a_rejected_item_is_never_released(queue):
    identity = queue.put(_item())
    queue.reject(identity)
    with pytest.raises(ReviewError, match="was rejected before"):
        queue.approve(identity)
    assert queue.identities("approved") == []


def test_one_of_many_concurrent_decisions_succeeds(queue):
    identity = queue.put(_item())

    def decide(_: int) -> bool:
        try:
            queue.approve(identity)
        except ReviewError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(decide, range(64))) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "tampered", "not json", "not a mapping"])
def test_a_damaged_item_is_not_released(queue, tmp_path, damage):
    identity = queue.put(_item())
    path = tmp_path / "queue" / "pending" / f"{identity}.json"
    text = path.read_text()
    stored = json.loads(text)
    stored["output"]["bits"] = 8
    contents = {
        "cut": text[: len(text) // 2],
        "empty": "",
        "tampered": json.dumps(stored),
        "not json": "x",
        "not a mapping": "[]",
    }
    path.write_text(contents[damage])
    with pytest.raises(ReviewError, match="nothing was released"):
        queue.approve(identity)
    assert queue.state_of(identity) == "pending"


def test_a_name_that_leads_elsewhere_is_refused(queue):
    queue.put(_item())
    for name in ("../pending/x", "", "nothing"):
        with pytest.raises(ReviewError):
            queue.show(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_queue_that_cannot_be_written_is_a_storage_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        ReviewQueue(tmp_path / "queue").put(_item())


def test_a_queue_on_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ReviewQueue(tmp_path / "file").put(_item())
