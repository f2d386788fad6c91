"""The model card states what was measured, and what was not."""

import json

import pytest
import yaml

from bit_transformer.checkpoint.format import load_checkpoint, read_manifest
from bit_transformer.hub import push
from tests.builders import tiny_model


def _card(hub, repository="user/net"):
    return hub.tree(repository)["README.md"].decode()


def _front(card):
    return yaml.safe_load(card.split("---")[1])


def test_the_card_of_a_run_holds_its_figures(hub, run):
    push(run, "user/net")
    card, report = _card(hub), json.loads((run / "report.json").read_text())
    metadata = read_manifest(next((run / "checkpoints").glob("step-*")))["metadata"]
    assert f"| this model | {report['held_out_bits_per_byte']:.3f} |" in card
    assert f"on {report['held_out_bytes']:,} held-out bytes" in card
    for name, value in report["baselines"].items():
        assert f"| {name} | {value:.3f} |" in card
    assert f"| bytes trained on | {report['data_bytes']:,} |" in card
    assert f"| training FLOPs | {report['training_flops']:.2e} |" in card
    assert "| data | corpus.txt |" in card
    assert "secret folder" not in card
    weights = load_checkpoint(next((run / "checkpoints").glob("step-*"))).weights
    assert f"| parameters | {sum(w.numel() for w in weights.values()):,} |" in card
    for floor in metadata["gate"]["floors"].values():
        assert f"| {floor:.4g} |" in card
    metric = _front(card)["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == pytest.approx(report["held_out_bits_per_byte"], abs=1e-4)


def test_the_card_states_what_was_not_measured(hub, tmp_path):
    push(tiny_model().save_pretrained(tmp_path / "m"), "user/net")
    card = _card(hub)
    assert "Not measured" in card
    assert "No gate was calibrated" in card
    assert "carries no record of its run" in card
    assert "model-index" not in _front(card)
    assert _front(card)["pipeline_tag"] == "text-generation"


def test_the_card_states_that_transformers_cannot_load_a_patch_size(hub, tmp_path):
    push(tiny_model(patch_size=5).save_pretrained(tmp_path / "m"), "user/net")
    assert "`transformers` cannot load this patch size" in _card(hub)
    assert "config.json" not in hub.tree("user/net")
