"""Manifests and names of weights of older versions become current ones here.

The settings of older runs move to their present sections in `training/config.py`. Optimizer states
whose weights are numbered are read in `training/optimizer.py`.

version 1  The configuration was that of the model, with the quantization among its fields. Files
           did not say what they hold. The feed-forward matrices were called widen and narrow,
           callbacks were saved under the names of their classes, and there was one objective.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bit_transformer.errors import CheckpointCorruptError, CheckpointVersionError

CURRENT_VERSION = 2
DEFAULT_OBJECTIVE = "causal"
"""The objective of checkpoints that do not name one."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
_PARTS = {"widen": "up_proj", "narrow": "down_proj"}
"""Former names of modules, as parts of the names of weights."""
_CALLBACKS = {
    "Checkpoints": "checkpoints",
    "EarlyStop": "early_stop",
    "Evaluation": "evaluation",
    "Recovery": "recovery",
}
"""Class names of the callbacks that saved a state."""

_log = logging.getLogger(__name__)
_announced: set[tuple[Any, int]] = set()
"""Seals of manifests whose upgrade is in the log. A command reads a manifest several times."""


def current_name(weight: str) -> str:
    """The name that a weight of an older version has now."""
    return ".".join(_PARTS.get(part, part) for part in weight.split("."))


def former_name(weight: str) -> str:
    """The name that a weight had in version 1. Digests of networks are taken over these names, so
    that a file compressed with a network outlives a change of names."""
    parts = {now: before for before, now in _PARTS.items()}
    return ".".join(parts.get(part, part) for part in weight.split("."))


def config_from_1(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a network, from the one of version 1."""
    model = {name: value for name, value in config.items() if name != "quantization"}
    return {"model": model, "quantization": config.get("quantization"), "layers": None}


def _from_1(manifest: dict[str, Any]) -> dict[str, Any]:
    files = {
        name: {**entry, "holds": "training" if name.startswith("training") else "weights"}
        for name, entry in manifest["files"].items()
        if isinstance(entry, dict)
    }
    return {
        **manifest,
        "config": config_from_1(manifest["config"]),
        "objective": DEFAULT_OBJECTIVE,
        "files": files,
        "training": _renamed(manifest.get("training")),
    }


def _renamed(node: Any) -> Any:
    """A skeleton of `checkpoint/state.py` with the current names of weights and callbacks."""
    if isinstance(node, list):
        return [_renamed(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "dict" not in node:
        return {kind: _renamed(content) for kind, content in node.items()}
    return {"dict": [_renamed_item(key, value) for key, value in node["dict"]]}


def _renamed_item(key: Any, value: Any) -> list[Any]:
    value = _renamed(value)
    if key == "callbacks":
        states = value["dict"]
        value = {"dict": [[_CALLBACKS.get(name, name), state] for name, state in states]}
    return [current_name(key) if isinstance(key, str) else key, value]


UPGRADES: dict[int, Upgrade] = {1: _from_1}
"""From a version to the function that turns its manifests into those of the next version."""


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

    Raises what `check_version` does.
    """
    for version in range(check_version(manifest, current=current), current):
        manifest = upgrades[version](manifest) | {"version": version + 1}
        mark = (manifest.get("sha256"), version)
        if mark not in _announced:
            _log.info("checkpoint manifest upgraded from version %d to %d", version, version + 1)
        if mark[0] is not None:
            _announced.add(mark)
    return manifest
