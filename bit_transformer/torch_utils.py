"""A documented name of the earlier system, kept as a thin import."""

from bit_transformer.training.precision import cpu_autocast

__all__ = ["cpu_autocast"]
