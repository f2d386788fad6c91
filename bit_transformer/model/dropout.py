"""Set every dropout rate of a model at once."""

from torch import nn

from bit_transformer.errors import ConfigError


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give all dropout layers of `model` this rate in [0, 1); it acts in training mode only."""
    if not 0 <= rate < 1:
        raise ConfigError(f"a dropout rate must be in [0, 1), got {rate}")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
