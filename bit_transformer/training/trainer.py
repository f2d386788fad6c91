"""The training loop. It does steps and gradients; everything else is a callback."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bit_transformer.distributed.world import World
from bit_transformer.errors import ConfigError
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.base import Objective
from bit_transformer.training.averaging import WeightAverage
from bit_transformer.training.callbacks.base import (
    Callback,
    Loader,
    Progress,
    StepAbandoned,
    StepRecord,
)
from bit_transformer.training.config import TrainConfig
from bit_transformer.training.optimizer import CombinedOptimizer, gradient_norm
from bit_transformer.training.precision import autocast
from bit_transformer.training.schedule import make_schedule


class Trainer:
    """Runs optimizer steps and notifies its callbacks at named moments.

    The network is parallelized before the optimizer is built and before the trainer is made: both
    the optimizer and the weight average are bound to its weights. On ranks other than the main one
    only callbacks with `every_rank` are notified.
    """

    def __init__(
        self,
        network: BitTransformer,
        objective: Objective,
        loader: Loader,
        optimizer: CombinedOptimizer,
        config: TrainConfig,
        callbacks: Iterable[Callback] = (),
        world: World = World(),  # noqa: B008 -- frozen
    ) -> None:
        """Raises `ConfigError` when two callbacks share a name."""
        self.network, self.objective, self.loader = network, objective, loader
        self.optimizer, self.config, self.world = optimizer, config, world
        self.callbacks = [one for one in callbacks if world.is_main or one.every_rank]
        _require_distinct_names(self.callbacks)
        self.schedule = make_schedule(config.schedule, config.steps, config.warmup, config.decay)
        self.average = WeightAverage(network, config.weight_average)
        self.progress = Progress()
        self.metadata: dict[str, Any] = {}
        self.stop_requested = self.interrupted = self.checkpoint_requested = False
        self.device = network.device

    def request_stop(self) -> None:
        """End after the current step. Callbacks still evaluate, save and report."""
        self.stop_requested = True

    def interrupt(self) -> None:
        """End after the current step and save. Long work is left out or stopped."""
        self.stop_requested = self.interrupted = True

    def request_checkpoint(self) -> None:
        """Save after the current step."""
        self.checkpoint_requested = True

    def fit(self) -> Progress:
        """Train until the configured steps are done, a callback asks to stop or the run is
        interrupted."""
        self.network.train()
        self.emit("on_start")
        try:
            while self.progress.step < self.config.steps and not self.stop_requested:
                with suppress(StepAbandoned):
                    self.emit("on_step_end", self.step())
            if not self.interrupted:
                self.emit("on_end")
            if self.interrupted:
                self.emit("on_interruption")
        finally:
            # This closes files and restores the terminal, even after an error.
            self.emit("on_close")
        return self.progress

    def step(self) -> StepRecord:
        """Do one optimizer step over `accumulate` micro-batches."""
        started = time.perf_counter()
        self.optimizer.scale_rates(self.schedule(self.progress.step))
        self.optimizer.zero_grad()
        loss, data_bytes = self._accumulate()
        norm = gradient_norm(self.optimizer.dense_parameters(), self.config.clip_norm)
        self.emit("on_gradients", float(loss), float(norm))
        self.optimizer.step()
        self.average.update()
        self.progress.step += 1
        self.progress.data_bytes += data_bytes
        self.progress.seconds += time.perf_counter() - started
        lr = self.optimizer.param_groups[0]["lr"]
        return StepRecord(
            step=self.progress.step,
            loss=float(loss),
            lr=lr,
            gradient_norm=float(norm),
            data_bytes=self.progress.data_bytes,
            seconds=self.progress.seconds,
        )

    def _accumulate(self) -> tuple[Float[Tensor, ""], int]:
        """Accumulate the gradients of the mean loss over the micro-batches. Returns this loss and
        the number of bytes of data in it."""
        total, bits_seen = torch.zeros((), device=self.device), 0
        done = self.progress.step / self.config.steps
        for _ in range(self.config.accumulate):
            bits = self.loader.next_batch().to(self.device, non_blocking=True)
            with autocast(self.device, self.config.precision):
                loss = self.objective.loss(self.network, bits, done) / self.config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            bits_seen += bits.numel()
        return total, bits_seen * self.world.size // self.network.config.bits_per_byte

    def emit(self, moment: str, *details: Any) -> None:
        """Notify every callback, in order, of a moment."""
        for callback in self.callbacks:
            getattr(callback, moment)(self, *details)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the weights that are saved for inference."""
        return {
            "progress": vars(self.progress).copy(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "average": self.average.state_dict(),
            "weights": self.network.state_dict() if self.config.weight_average > 0 else {},
            "random": _random_state(),
            "callbacks": self._callback_states(),
        }

    def _callback_states(self) -> dict[str, Any]:
        states = {}
        for callback in self.callbacks:
            state = callback.state_dict()
            if state and not callback.name:
                raise ConfigError(
                    f"the callback {type(callback).__name__} has a state but no name to save it "
                    "under; give its class a `name`"
                )
            if state:
                states[callback.name] = state
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken. The network must hold the saved
        weights."""
        self.progress = Progress(**state["progress"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        self.average.load_state_dict(state["average"])
        if state["weights"]:
            self.network.load_state_dict(state["weights"])
        _restore_random_state(state["random"])
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(callback.name, {}))


def _require_distinct_names(callbacks: list[Callback]) -> None:
    counts = Counter(one.name for one in callbacks if one.name)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(f"two callbacks are called {twice[0]!r}; give each a name of its own")


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    # On a machine with a different number of GPUs, the GPU states do not fit. Such a run continues
    # at the right step with other dropout masks.
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
