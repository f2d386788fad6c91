"""The settings of objectives. This module imports nothing heavy, so that `--help` stays fast."""

from dataclasses import dataclass

from bit_transformer.errors import ConfigError, require
from bit_transformer.settings import Settings


@dataclass(frozen=True)
class ObjectiveConfig(Settings):
    """The objective. Penalties are in bits per byte for each unit of a metric below its floor."""

    objective: str = "causal"
    """Name of the objective; `causal` predicts each bit from all bits before it."""
    lambda_k: float = 0.0
    """Weight of the penalty that pushes towards more confident predictions. It applies while
    negentropy K is below floor_k."""
    lambda_c: float = 0.0
    """Weight of the penalty that pushes predictions away from repetition. It applies while
    complexity C is below floor_c."""
    lambda_s: float = 0.0
    """Weight of the penalty that pulls predictions towards those of the context-tree code. It
    applies while symbiosis S is below floor_s."""
    floor_k: float = 0.5
    """There is no penalty while K is at or above this value."""
    floor_c: float = 0.3
    """There is no penalty while C is at or above this value."""
    floor_s: float = 0.5
    """There is no penalty while S is at or above this value."""
    compress_prob: float = 0.0
    """Probability that a batch is run-length coded and decoded, which changes nothing."""
    direct_prob: float = 0.0
    """Probability that a batch is replaced by its run-length streams. This does not help."""
    ramp: float = 0.5
    """Share of the steps over which both probabilities rise from 0."""

    def __post_init__(self) -> None:
        for name in ("lambda_k", "lambda_c", "lambda_s"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), name, value, "at least 0 and finite")
        for name in ("floor_k", "floor_c", "floor_s", "compress_prob", "direct_prob", "ramp"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        if self.compress_prob + self.direct_prob > 1:
            raise ConfigError(
                "compress_prob and direct_prob must add up to at most 1, got "
                f"{self.compress_prob} and {self.direct_prob}"
            )
