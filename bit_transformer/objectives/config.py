"""The settings of objectives, without what it takes to compute them: help is to be fast."""

from dataclasses import dataclass, fields

from bit_transformer.errors import ConfigError


@dataclass(frozen=True)
class RegularizerConfig:
    """Penalties on K, C and S of the predictions, in bits per byte per unit below the floor."""

    lambda_k: float = 0.0
    """Weight of the penalty on predictions without order (negentropy below its floor)."""
    lambda_c: float = 0.0
    """Weight of the penalty on repetition (complexity below its floor)."""
    lambda_s: float = 0.0
    """Weight of the penalty on leaving the universal code's predictions (symbiosis)."""
    floor_k: float = 0.5
    """Negentropy from which on there is no penalty."""
    floor_c: float = 0.3
    """Complexity from which on there is no penalty."""
    floor_s: float = 0.5
    """Symbiosis from which on there is no penalty."""
    ponder_cost: float = 0.05
    """Bits per byte that all blocks together cost; only where patches may halt (use_act)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith(("lambda", "ponder")) and not 0 <= value < float("inf"):
                raise ConfigError(f"{field.name} must be at least 0 and finite, got {value}")
            if field.name.startswith("floor") and not 0 <= value <= 1:
                raise ConfigError(f"{field.name} must be in [0, 1], got {value}")


@dataclass(frozen=True)
class RunLengthConfig:
    """Shares of batches that are run-length coded; 0 and 0: none."""

    compress_prob: float = 0.0
    """Probability that a batch goes through the run-length code and back."""
    direct_prob: float = 0.0
    """Probability that a batch is replaced by its run-length streams."""
    ramp: float = 0.5
    """Share of the steps over which both probabilities rise from 0."""

    def __post_init__(self) -> None:
        for name in ("compress_prob", "direct_prob", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.compress_prob + self.direct_prob > 1:
            raise ConfigError(
                "compress_prob and direct_prob must be 1 together at most, got "
                f"{self.compress_prob} and {self.direct_prob}"
            )

    @property
    def active(self) -> bool:
        """Whether any batch is coded."""
        return self.compress_prob + self.direct_prob > 0
