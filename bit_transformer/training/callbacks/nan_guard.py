"""Stops a run at the first NaN or infinity, before it reaches the weights."""

import math

from bit_transformer.errors import NonFiniteLossError
from bit_transformer.training.callbacks.base import Callback, RunningTrainer


class NaNGuard(Callback):
    """Raises `NonFiniteLossError` naming the step; weights and checkpoints stay as they were."""

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """Check the loss and the joint norm of the gradients."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {norm}"
        raise NonFiniteLossError(
            f"{what} in step {trainer.progress.step + 1} (loader {trainer.loader.state_dict()}); "
            "the weights were not updated and the last checkpoint is good: resume from it with a "
            "lower learning rate or with clip_norm above 0"
        )
