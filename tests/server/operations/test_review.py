"""Output that the gate held back is shown, decided once, and hidden after a rejection."""

import pytest

from bit_transformer.checkpoint.format import load_checkpoint, save_checkpoint
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.safety.gate import SafetyGate


@pytest.fixture
def strict(served):
    """Run a server with a run whose gate refuses everything."""
    folder = locate_checkpoint(served.root / "one")
    saved = load_checkpoint(folder)
    gate = SafetyGate(floors={"k": 1.0}, burn_in=0)
    save_checkpoint(
        folder,
        weights=saved.weights,
        config=saved.config,
        metadata=saved.metadata | {"gate": gate.to_dict()},
        replace=True,
    )
    return served


def _refused(served):
    body = {"run": "one", "prompt": "to be", "new_bytes": 20, "gate": True}
    status, _, found = served.ask("POST", "/infer", body)
    assert status == 200, found
    return found


def test_refused_output_waits_for_a_human(strict):
    assert strict.ask("GET", "/runs/one")[2]["floors"] == {"k": 1.0}
    found = _refused(strict)
    assert (found["passed"], found["new_bytes"]) == (False, 0)
    assert found["reasons"]
    items = strict.ask("GET", "/review")[2]["items"]
    assert [item["item"] for item in items] == [found["queued"]]
    shown = strict.ask("GET", f"/review/{found['queued']}")[2]
    assert (shown["state"], shown["prompt"]) == ("pending", "to be")
    approved = strict.ask("POST", f"/review/{found['queued']}/approve")
    assert (approved[0], approved[2]["state"]) == (200, "approved")
    again = strict.ask("POST", f"/review/{found['queued']}/approve")
    assert again[0] == 409
    assert "decided once" in again[2]["detail"]


def test_rejected_output_is_not_told(strict):
    item = _refused(strict)["queued"]
    rejected = strict.ask("POST", f"/review/{item}/reject")[2]
    assert (rejected["state"], rejected["output"], rejected["output_base64"]) == (
        "rejected",
        None,
        None,
    )
    assert strict.ask("GET", f"/review/{item}")[2]["output"] is None
    assert strict.ask("POST", f"/review/{item}/approve")[0] == 409
    assert strict.ask("GET", "/review?state=rejected")[2]["items"][0]["item"] == item


def test_unknown_items_and_damaged_ones(strict):
    unknown = "20260101T000000-abcdef"
    assert strict.ask("GET", f"/review/{unknown}")[0] == 404
    assert strict.ask("POST", f"/review/{unknown}/reject")[0] == 404
    item = _refused(strict)["queued"]
    path = strict.engine.workspace.review / "pending" / f"{item}.json"
    path.write_text("{}")
    assert strict.ask("GET", f"/review/{item}")[0] == 409
    (listed,) = strict.ask("GET", "/review")[2]["items"]
    assert "its file is damaged" in listed["reasons"][0]


def test_a_run_without_a_gate_says_so(served):
    status, _, problem = served.ask("POST", "/infer", {"run": "one", "gate": True})
    assert status == 422
    assert "has no calibrated gate" in problem["detail"]
