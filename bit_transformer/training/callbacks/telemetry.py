"""Measures K, C, S and attention entropy of training steps."""

from typing import Any

import torch
from torch import Tensor, nn

from bit_transformer.model.bit_tree import patch_bits, path_logits
from bit_transformer.model.transformer import ExitLogits
from bit_transformer.telemetry.forward_pass import pass_metrics
from bit_transformer.telemetry.probe import Probe
from bit_transformer.training.callbacks.base import (
    Callback,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
    TelemetryRecord,
)

_ROWS = 2
METRICS = (
    "negentropy_input",
    "lz_complexity_input",
    "negentropy_logits",
    "lz_complexity_logits",
    "symbiosis_kl",
    "symbiosis_score",
    "attention_entropy_mean",
)
"""The metrics of a step by the names that telemetry gives them."""


class TelemetryReader(Callback):
    """Measures the first windows of a step every `every` steps, and emits `on_telemetry`.

    The metrics come from the step's own forward pass, through hooks. Other steps have no hooks and
    cost nothing.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._probe: Probe | None = None
        self._handle: Any = None
        self._seen: tuple[Tensor, Tensor] | None = None
        """Patches and node logits of the first windows."""

    def on_start(self, trainer: RunningTrainer) -> None:
        """Attach the hooks if the coming step is due."""
        self._attach_when_due(trainer, trainer.progress.step + 1)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Emit the metrics of an observed step, and attach the hooks if the next step is due."""
        if self._seen is not None:
            trainer.emit("on_telemetry", self._measure(trainer, record.step))
        self._detach()
        self._attach_when_due(trainer, record.step + 1)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Discard the abandoned step."""
        self._detach()
        self._attach_when_due(trainer, record.step + 1)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Remove the hooks from the network."""
        self._detach()

    def _attach_when_due(self, trainer: RunningTrainer, step: int) -> None:
        if step % self._every == 0 or step == 1:
            self._probe = Probe(trainer.network, rows=_ROWS).__enter__()
            self._handle = trainer.network.register_forward_hook(self._observe)

    def _detach(self) -> None:
        if self._probe is not None:
            self._probe.__exit__(None, None, None)
        if self._handle is not None:
            self._handle.remove()
        self._probe = self._handle = self._seen = None

    def _observe(self, network: nn.Module, arguments: Any, output: Tensor | ExitLogits) -> None:
        if network.training and self._seen is None:
            nodes = output.logits[-1] if isinstance(output, ExitLogits) else output
            self._seen = arguments[0][:_ROWS], nodes.detach()[:_ROWS]

    @torch.no_grad()
    def _measure(self, trainer: RunningTrainer, step: int) -> TelemetryRecord:
        assert self._probe is not None
        assert self._seen is not None
        (patches, nodes), config = self._seen, trainer.network.config
        logits = path_logits(nodes[:, : patches.shape[1]].float(), patches, config.patch_size)
        found = pass_metrics(
            patch_bits(patches, config.patch_size),
            logits.flatten(1),
            self._probe,
            symbol_bits=config.bits_per_byte,
        )
        return TelemetryRecord(step, {name: float(found[name].mean()) for name in METRICS})
