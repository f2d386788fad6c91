"""Builds an objective from its settings. To add an objective, write a module beside this one and
add a line to `OBJECTIVES`."""

from collections.abc import Callable

from bit_transformer.errors import ConfigError
from bit_transformer.objectives.base import Objective
from bit_transformer.objectives.causal import Causal
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.objectives.run_length import RunLength

OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {Causal.name: Causal}
"""Every objective by its name in settings."""


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective that the settings describe. Raises `ConfigError` for an unknown name."""
    if config.objective not in OBJECTIVES:
        raise ConfigError(
            f"objective must be one of {', '.join(OBJECTIVES)}, got {config.objective!r}"
        )
    objective = OBJECTIVES[config.objective](config)
    if config.compress_prob + config.direct_prob > 0:
        return RunLength(objective, config)
    return objective
