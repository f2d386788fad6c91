"""Manifests of older versions become current ones here and nowhere else."""

import logging
from collections.abc import Callable
from typing import Any

from bit_transformer.errors import CheckpointCorruptError, CheckpointVersionError

CURRENT_VERSION = 1

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[int, Upgrade] = {}
"""From a version to the function that makes its manifests the next version's."""

_log = logging.getLogger(__name__)


def upgrade(
    manifest: dict[str, Any],
    *,
    upgrades: dict[int, Upgrade] = UPGRADES,
    current: int = CURRENT_VERSION,
) -> dict[str, Any]:
    """The manifest as the current version writes it, upgraded version by version.

    Raises `CheckpointVersionError` for a newer one, `CheckpointCorruptError` for one without a
    version.
    """
    version = manifest.get("version")
    if not isinstance(version, int):
        raise CheckpointCorruptError(f"the manifest has no version number but {version!r}")
    if version > current:
        raise CheckpointVersionError(
            f"the checkpoint has format version {version}, this program reads up to {current}; "
            "upgrade bit-transformer"
        )
    while version < current:
        manifest = upgrades[version](manifest) | {"version": version + 1}
        _log.info("checkpoint manifest upgraded from version %d to %d", version, version + 1)
        version += 1
    return manifest
