"""A run that goes bad returns to a good point and ends near the undisturbed run."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from bit_transformer import OptimizerConfig, RunConfig
from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.errors import CollapseError, ConfigError
from bit_transformer.training.callbacks.base import Callback, RecoveryRecord, RunningTrainer
from bit_transformer.training.callbacks.health import Health, step_fault
from bit_transformer.training.callbacks.recovery import Recovery
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, read_metrics

STEPS = 60


class Fault(Callback):
    """Changes the trainer when the run begins, and collects the records of recoveries."""

    def __init__(self, inject=lambda trainer: None):
        self._inject = inject
        self.records: list[RecoveryRecord] = []

    def on_start(self, trainer: RunningTrainer) -> None:
        self._inject(trainer)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        self.records.append(record)


class Noise:
    """A loader that replaces the batches with these numbers by random bits."""

    def __init__(self, loader, poisoned):
        self._loader, self._poisoned = loader, poisoned

    def next_batch(self):
        index = self._loader.state_dict()["batches"]
        bits = self._loader.next_batch()
        if index not in self._poisoned:
            return bits
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 2, bits.shape, generator=generator, dtype=torch.uint8)

    def state_dict(self):
        return self._loader.state_dict()

    def load_state_dict(self, state):
        self._loader.load_state_dict(state)


def poison(trainer):
    trainer.loader = Noise(trainer.loader, range(30, 45))


def nan_gradients(*steps):
    def inject(trainer):
        due = set(steps)

        def spoil(gradient):
            step = trainer.progress.step
            if step not in due:
                return gradient
            due.remove(step)
            return gradient * math.nan

        trainer.network.head.nodes.register_hook(spoil)

    return inject


def damage_weights(at):
    """Return a callback that sets weights to NaN after this step, once."""

    class Damage(Fault):
        def on_step_end(self, trainer, record):
            if record.step == at and not self.records:
                trainer.network.head.nodes.data.fill_(math.nan)

    return Damage()


@pytest.fixture
def recovering(settings, monkeypatch):
    monkeypatch.setattr("bit_transformer.training.callback_list.can_plot", lambda: False)

    def make(**train) -> RunConfig:
        quiet = {"evaluate_every": 0, "checkpoint_every": 0, "telemetry_every": 0}
        defaults = {"steps": STEPS, "max_recoveries": 10, "recovery_every": 5}
        config = settings(**(quiet | defaults | train))
        data = dataclasses.replace(config.data, held_out_fraction=0.0)
        return dataclasses.replace(config, data=data)

    return make


@pytest.fixture
def undisturbed(recovering, tmp_path):
    """Return the mean of the last losses of a run without faults."""
    train_run(recovering(max_recoveries=0), tmp_path / "undisturbed", progress=False)
    return _last_losses(tmp_path / "undisturbed")


def _lines(folder: Path, kind: str) -> list[dict]:
    return [one for one in read_metrics(folder / "metrics.jsonl") if one["kind"] == kind]


def _last_losses(folder: Path) -> float:
    return sum(line["loss"] for line in _lines(folder, "step")[-8:]) / 8


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(RunFolder(folder).checkpoints.latest()).weights


@pytest.mark.parametrize(
    ("inject", "actions"),
    [
        (poison, {"skip"}),
        (nan_gradients(30), {"skip"}),
        (nan_gradients(30, 31, 50), {"skip"}),
    ],
    ids=["poisoned data", "one NaN gradient", "NaN gradients"],
)
def test_a_run_with_a_fault_ends_near_the_undisturbed_one(
    recovering, undisturbed, tmp_path, inject, actions
):
    fault = Fault(inject)
    result = train_run(recovering(), tmp_path / "run", callbacks=[fault])
    assert result.steps == STEPS
    assert {record.action for record in fault.records} >= actions
    assert _last_losses(tmp_path / "run") < 1.1 * undisturbed
    assert [line["step"] for line in _lines(tmp_path / "run", "step")] == [*range(1, STEPS + 1)]
    logged = _lines(tmp_path / "run", "recovery")
    assert [line["reason"] for line in logged] == [record.reason for record in fault.records]


def test_a_skipped_batch_never_reaches_the_weights(recovering, tmp_path):
    fault = Fault(poison)
    train_run(recovering(), tmp_path / "run", progress=False, callbacks=[fault])
    assert [record.action for record in fault.records] == ["skip"] * 15
    assert {record.step for record in fault.records} == {30}
    assert all(record.rate_factor == 1 for record in fault.records)


def test_damaged_weights_are_replaced_by_those_of_a_good_point(recovering, undisturbed, tmp_path):
    fault = damage_weights(at=42)
    config = recovering(checkpoint_every=7)
    train_run(config, tmp_path / "run", progress=False, callbacks=[fault])
    (record,) = fault.records
    assert (record.action, record.step, record.went_bad) == ("return", 35, 43)
    assert (record.rate_factor, record.skipped_steps) == (0.5, 8)
    assert _last_losses(tmp_path / "run") < 1.1 * undisturbed
    abandoned = _lines(tmp_path / "run", "abandoned")
    assert [line["step"] for line in abandoned if line["was"] == "step"] == [*range(36, 43)]


def test_checkpoints_of_abandoned_steps_are_replaced(recovering, tmp_path):
    class Look(Callback):
        steps = None

        def on_recovery(self, trainer, record):
            self.steps = RunFolder(tmp_path / "run").checkpoints.steps()

    look = Look()
    config = recovering(checkpoint_every=7, steps=45)
    train_run(config, tmp_path / "run", progress=False, callbacks=[damage_weights(42), look])
    assert look.steps[-1] == 35


def test_a_healthy_run_is_bit_for_bit_the_run_without_recovery(recovering, tmp_path):
    fault = Fault()
    train_run(recovering(max_recoveries=0), tmp_path / "without", progress=False)
    train_run(recovering(), tmp_path / "with", progress=False, callbacks=[fault])
    assert fault.records == []
    one, other = (_weights(tmp_path / name) for name in ("without", "with"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("train", [{}, {"weight_average": 0.9, "accumulate": 2}])
@pytest.mark.parametrize("crash_at", [38, 45])
def test_a_run_resumed_around_a_recovery_is_the_undisturbed_one(
    recovering, tmp_path, train, crash_at
):
    class Damage(Callback):
        """Multiplies the weights by 1000 after step 42, whenever the learning rate is full."""

        def on_step_end(self, trainer, record):
            full = trainer.optimizer.param_groups[0]["base_lr"] > 0.01
            if record.step == 42 and full:
                for weight in trainer.network.parameters():
                    weight.data.mul_(1000)

    class Crash(Callback):
        def on_step_end(self, trainer, record):
            if record.step == crash_at:
                raise RuntimeError("power cut")

    config = recovering(steps=60, checkpoint_every=9, **train)
    train_run(config, tmp_path / "whole", progress=False, callbacks=[Damage()])
    with pytest.raises(RuntimeError):
        train_run(config, tmp_path / "cut", progress=False, callbacks=[Damage(), Crash()])
    train_run(config, tmp_path / "cut", resume=True, progress=False, callbacks=[Damage()])
    assert _lines(tmp_path / "whole", "recovery") == _lines(tmp_path / "cut", "recovery")
    assert _lines(tmp_path / "whole", "recovery")
    losses = [[line["loss"] for line in _lines(tmp_path / n, "step")] for n in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_the_run_ends_when_it_went_bad_too_often(recovering, tmp_path):
    class Damage(Callback):
        def on_step_end(self, trainer, record):
            trainer.network.head.nodes.data.fill_(math.nan)

    with pytest.raises(CollapseError, match=r"3 times, max_recoveries is 2; .*loss is nan.*lower"):
        train_run(
            recovering(max_recoveries=2), tmp_path / "run", progress=False, callbacks=[Damage()]
        )


def test_a_collapse_of_samples_is_undone(recovering, tmp_path, monkeypatch):
    fault = Fault()
    drawn = []

    def sample(recovery, trainer, step):
        drawn.append(step)
        return (0.05, 0.1) if step > 40 and not fault.records else (0.6, 3.0)

    monkeypatch.setattr(Recovery, "_measure_sample", sample)
    train_run(recovering(), tmp_path / "run", progress=False, callbacks=[fault])
    (record,) = fault.records
    assert "samples turned to loops" in record.reason
    assert (record.step, record.went_bad) == (35, 47)
    assert drawn[8:11] == [45, 46, 47]


def test_an_absurd_rate_comes_down_until_the_run_is_near_the_undisturbed_one(
    recovering, undisturbed, tmp_path
):
    absurd = OptimizerConfig(lr=1.5, embedding_lr=2.0, memory_lr=20.0)
    config = dataclasses.replace(recovering(), optimizer=absurd)
    train_run(config, tmp_path / "run", progress=False)
    assert _last_losses(tmp_path / "run") < 1.1 * undisturbed
    rates = [line["rate_factor"] for line in _lines(tmp_path / "run", "recovery")]
    assert rates[:1] == [0.5]
    assert rates == sorted(rates, reverse=True)


def test_returns_to_one_point_in_a_row_lower_the_rates_ever_more(recovering, tmp_path):
    class Damage(Callback):
        """Sets weights to NaN after step 42, until the learning rates are a hundredth."""

        def on_step_end(self, trainer, record):
            if record.step == 42 and record.lr > 1e-4 * 0.99:
                trainer.network.head.nodes.data.fill_(math.nan)

    train_run(recovering(schedule="constant"), tmp_path / "run", callbacks=[Damage()])
    recoveries = _lines(tmp_path / "run", "recovery")
    assert {line["step"] for line in recoveries} == {35}
    assert [line["rate_factor"] for line in recoveries] == [2**-1, 2**-3, 2**-6, 2**-10]


def _health(losses, **more) -> Health:
    health = Health(**more)
    for loss in losses:
        health.take_loss(loss)
    return health


def test_losses():
    falling = [8 * 0.95**step for step in range(60)]
    for step, loss in enumerate(falling):
        health = _health(falling[:step])
        assert health.loss_fault(loss) is None
        assert health.drift_fault() is None
    assert "above the limit of 9.00" in Health().loss_fault(9.1)
    assert _health([8, 6, 5]).loss_fault(7.1) is not None
    steady = _health([2.0, 2.2] * 16)
    assert steady.loss_fault(3.0) is None
    assert steady.loss_fault(3.4) is not None
    for _ in range(16):
        steady.take_loss(2.7)
    assert "settled at 2.70" in steady.drift_fault()


def test_activations():
    health = Health(activations=[1.0] * 8)
    assert health.activation_fault(20.0, 0.5) is None
    assert "exploded, from 1 to 31" in health.activation_fault(31.0, 0.5)
    assert "activations are nan" in health.activation_fault(math.nan, 0.5)
    assert "same at every position" in health.activation_fault(1.0, 1e-5)


def test_samples():
    health = _health([3.0] * 20, samples=[(0.6, 3.0)] * 3)
    assert health.sample_fault(0.5, 2.5) is None
    assert "loops" in health.sample_fault(0.2, 0.5)
    assert "noise" in health.sample_fault(0.9, 6.0)
    loops = _health([0.1] * 20, samples=[(0.6, 3.0)] * 3)
    assert loops.sample_fault(0.1, 0.1) is None
    assert Health().sample_fault(0.0, 0.0) is None


def test_steps_without_numbers():
    assert step_fault(2.0, 1.0) is None
    assert step_fault(math.inf, 1.0) == "loss is inf"
    assert step_fault(2.0, math.nan) == "gradient norm is nan"


def test_settings(recovering):
    with pytest.raises(ConfigError, match="max_recoveries must be at least 0"):
        recovering(max_recoveries=-1)
    with pytest.raises(ConfigError, match="recovery_every must be at least 1"):
        recovering(recovery_every=0)


@pytest.mark.parametrize("use_act", [False, True])
def test_activations_that_explode_are_seen_though_the_loss_does_not_change(
    recovering, tmp_path, use_act
):
    def inject(trainer):
        exploded = []

        def scale(stack, arguments, output):
            if not stack.training or exploded or trainer.progress.step != 49:
                return output
            # The head normalises its input, so predictions do not change.
            exploded.append(trainer.progress.step)
            if isinstance(output, torch.Tensor):
                return output * 1000
            states, halt_probs = output
            return states * 1000, halt_probs

        trainer.network.stack.register_forward_hook(scale)

    config = recovering()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, use_act=use_act))
    fault = Fault(inject)
    train_run(config, tmp_path / "run", callbacks=[fault], progress=False)
    assert [record.action for record in fault.records] == ["return"]
    assert "activations have exploded" in fault.records[0].reason
