import logging

import pytest

from bit_transformer.checkpoint.migrate import CURRENT_VERSION, UPGRADES, upgrade
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
    with pytest.raises(CheckpointVersionError, match=r"version 8, this .* up to 1; upgrade bit"):
        upgrade({"version": 8})


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1])
def test_what_is_no_version_is_corrupt(version):
    with pytest.raises(CheckpointCorruptError, match=r"the manifest has .* for its version"):
        upgrade({"version": version})
    with pytest.raises(CheckpointCorruptError, match="None for its version"):
        upgrade({})
