import dataclasses
import logging

import pytest

from bit_transformer.checkpoint import migrate
from bit_transformer.checkpoint.format import load_checkpoint, read_manifest
from bit_transformer.checkpoint.migrate import (
    CURRENT_VERSION,
    UPGRADES,
    current_name,
    former_name,
    upgrade,
)
from bit_transformer.errors import CheckpointCorruptError, CheckpointVersionError


def test_the_table_reaches_the_current_version():
    assert sorted(UPGRADES) == list(range(1, CURRENT_VERSION))


def test_a_current_manifest_is_left_alone(caplog):
    manifest = {"version": CURRENT_VERSION, "config": {"a": 1}}
    with caplog.at_level(logging.INFO):
        assert upgrade(manifest) == manifest
    assert caplog.messages == []


def test_older_manifests_go_through_every_step_in_order(caplog):
    steps = {
        1: lambda manifest: manifest | {"log": [*manifest["log"], "one"]},
        2: lambda manifest: manifest | {"log": [*manifest["log"], "two"]},
    }
    with caplog.at_level(logging.INFO):
        upgraded = upgrade({"version": 1, "log": []}, upgrades=steps, current=3)
    assert upgraded == {"version": 3, "log": ["one", "two"]}
    assert caplog.messages == [
        "checkpoint manifest upgraded from version 1 to 2",
        "checkpoint manifest upgraded from version 2 to 3",
    ]
    assert upgrade({"version": 2, "log": []}, upgrades=steps, current=3)["log"] == ["two"]


def test_a_newer_version_names_both_and_the_remedy():
    with pytest.raises(CheckpointVersionError, match=r"version 8, this .* up to 2; upgrade bit"):
        upgrade({"version": 8})


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1])
def test_what_is_no_version_is_corrupt(version):
    with pytest.raises(CheckpointCorruptError, match=r"the manifest has .* for its version"):
        upgrade({"version": version})
    with pytest.raises(CheckpointCorruptError, match="None for its version"):
        upgrade({})


def test_a_checkpoint_of_version_1_loads(sample):
    checkpoint = load_checkpoint(sample.golden.with_name("golden_version_1"), training=True)
    spec = {"model": sample.config, "quantization": None, "layers": None}
    assert checkpoint.config == spec
    assert checkpoint.objective == "causal"
    sample.check(dataclasses.replace(checkpoint, config=sample.config))


def test_the_upgrade_of_a_checkpoint_is_told_once(sample, caplog):
    old = sample.golden.with_name("golden_version_1")
    migrate._announced.clear()
    with caplog.at_level(logging.INFO):
        read_manifest(old)
        read_manifest(old)
    assert caplog.messages == ["checkpoint manifest upgraded from version 1 to 2"]


def test_names_of_version_1_are_found_and_digests_keep_them():
    name = "stack.blocks.0.feed_forward.up_proj.weight"
    assert current_name("stack.blocks.0.feed_forward.widen.weight") == name
    assert current_name(name) == name
    assert former_name(name) == "stack.blocks.0.feed_forward.widen.weight"
