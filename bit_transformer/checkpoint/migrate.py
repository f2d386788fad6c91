"""Manifests of older versions become current ones here and nowhere else."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bit_transformer.errors import CheckpointCorruptError, CheckpointVersionError

CURRENT_VERSION = 1

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[int, Upgrade] = {}
"""From a version to the function that makes its manifests the next version's."""

_log = logging.getLogger(__name__)


def check_version(manifest: dict[str, Any], *, current: int = CURRENT_VERSION) -> int:
    """The version of a manifest.

    Raises `CheckpointVersionError` for a newer one, `CheckpointCorruptError` where there is none.
    """
    version = manifest.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointCorruptError(
            f"the manifest has {version!r} for its version, not a number from 1 to {current}; use "
            "another checkpoint of the run"
        )
    if version > current:
        raise CheckpointVersionError(
            f"the checkpoint has format version {version}, this program reads up to {current}; "
            "upgrade bit-transformer"
        )
    return version


def upgrade(
    manifest: dict[str, Any],
    *,
    upgrades: Mapping[int, Upgrade] = UPGRADES,
    current: int = CURRENT_VERSION,
) -> dict[str, Any]:
    """The manifest as the current version writes it, upgraded version by version.

    Raises as `check_version` does.
    """
    for version in range(check_version(manifest, current=current), current):
        manifest = upgrades[version](manifest) | {"version": version + 1}
        _log.info("checkpoint manifest upgraded from version %d to %d", version, version + 1)
    return manifest
