"""Train a model, compare it with general compressors, sample."""

import dataclasses
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from bit_transformer.cli.arguments import RARE, Shown
from bit_transformer.cli.output import parse, parse_known, print_comparison, print_json
from bit_transformer.data.config import DataConfig
from bit_transformer.data.dataset import open_dataset
from bit_transformer.errors import ConfigError, MissingExtraError
from bit_transformer.hub.mirror import HubMirror
from bit_transformer.inference.baselines import compressed_bits_per_byte
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.config import ModelConfig, PresetName, preset
from bit_transformer.objectives.regularizers import RegularizerConfig
from bit_transformer.objectives.run_length import RunLengthConfig
from bit_transformer.training.callbacks.base import Callback, RunningTrainer
from bit_transformer.training.config import OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.training.fit import RunResult, train_run
from bit_transformer.training.run_folder import RunFolder

_SAMPLE_BYTES = 400


@dataclass(frozen=True)
class TrainArguments:
    """Train a model on any bytes, then report bits per byte beside general compressors, and sample.

    Without DATA it trains on the Python standard library of this machine. Settings come from the
    defaults, then --preset, then --config, then the flags; --resume takes them from the run
    instead.
    """

    data_sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="data")] = ()
    """Files, folders, globs, - for stdin, hf://OWNER/NAME."""
    out: Path | None = None
    """Run folder; by default a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out, or with the newest one under runs/."""
    preset: PresetName = "tiny"
    """Size of the model: the model settings it stands for are in the README."""
    config: Path | None = None
    """TOML file with the sections data, model, optimizer, train, regularizers, run_length."""
    hf_repo: Annotated[str | None, RARE] = None
    """Repository on a hub, as in user/name, that is kept at the newest checkpoint; where it holds
    this run already, on a new machine say, training goes on from there."""
    hf_token: Annotated[str | None, RARE] = None
    """The hub's token for --hf-repo; better left to HF_TOKEN or the hub's token file, which no list
    of processes shows."""
    json: bool = False
    """Print the report as JSON."""
    data: DataConfig = field(default_factory=DataConfig)
    model: Annotated[
        ModelConfig, Shown("d_model", "nhead", "num_layers", "dim_feedforward", "max_seq_len")
    ] = field(default_factory=ModelConfig)
    optimizer: Annotated[OptimizerConfig, Shown("lr")] = field(default_factory=OptimizerConfig)
    train: Annotated[
        TrainConfig, Shown("steps", "batch_size", "memory_budget", "device", "seed")
    ] = field(default_factory=TrainConfig)
    regularizers: RegularizerConfig = field(default_factory=RegularizerConfig)
    run_length: RunLengthConfig = field(default_factory=RunLengthConfig)

    def settings(self) -> RunConfig:
        """The run's settings."""
        data = self.data
        if self.data_sources:
            data = dataclasses.replace(data, sources=self.data_sources)
        return RunConfig(
            data, self.model, self.optimizer, self.train, self.regularizers, self.run_length
        )


@dataclass(frozen=True)
class _Origin:
    """The few flags that decide where the defaults of all others come from."""

    out: Path | None = None
    resume: bool = False
    preset: PresetName = "tiny"
    config: Path | None = None

    def defaults(self) -> TrainArguments:
        """What the flags start from."""
        settings = RunConfig(model=preset(self.preset))
        if self.resume:
            settings = RunFolder(self.folder()).config()
        elif self.config is not None:
            settings = RunConfig.from_toml(self.config, preset(self.preset))
        return TrainArguments(
            data=settings.data,
            model=settings.model,
            optimizer=settings.optimizer,
            train=settings.train,
            regularizers=settings.regularizers,
            run_length=settings.run_length,
        )

    def folder(self) -> Path:
        """The run folder that is meant."""
        if self.out is not None:
            return self.out
        if self.resume and (runs := sorted(Path("runs").glob("*/config.json"))):
            return runs[-1].parent
        return Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")


class _StopOnSignal(Callback):
    """The first SIGINT or SIGTERM ends the run after its step, saved; a second one at once."""

    def on_start(self, trainer: RunningTrainer) -> None:
        self._before = {
            number: signal.signal(number, lambda *_: self._stop(trainer))
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _stop(self, trainer: RunningTrainer) -> None:
        trainer.request_stop()
        self.on_close(trainer)

    def on_close(self, trainer: RunningTrainer) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse_settings(words, command="train")
    folder = _origin(words).folder()
    settings = arguments.settings()
    mirror = _mirror(arguments, folder)
    resume = arguments.resume
    callbacks: list[Callback] = [_StopOnSignal()]
    if mirror is not None:
        callbacks.append(mirror)
        resume = mirror.prepare() or resume
    result = train_run(settings, folder, resume=resume, callbacks=callbacks)
    report = (RunFolder(folder).report() or {}) | {"baselines": _baselines(settings, folder)}
    report["sample"] = _sample(result.model)
    RunFolder(folder).write_report(report)
    if mirror is not None:
        mirror.push_result()
    if arguments.json:
        print_json({"run": str(folder), **report})
    else:
        _print_report(result, report["baselines"], report["sample"])


def _mirror(arguments: TrainArguments, folder: Path) -> HubMirror | None:
    if arguments.hf_repo is None:
        if arguments.hf_token is not None:
            raise ConfigError("--hf-token is for --hf-repo; name a repository as well")
        return None
    return HubMirror(folder, arguments.hf_repo, token=arguments.hf_token)


def parse_settings(words: Sequence[str], *, command: str) -> TrainArguments:
    """The arguments, over the defaults that some of them choose."""
    return parse(TrainArguments, words, command=command, default=_origin(words).defaults())


def _origin(words: Sequence[str]) -> _Origin:
    return parse_known(_Origin, words, command="train")


def _baselines(settings: RunConfig, folder: Path) -> dict[str, float]:
    """General compressors on all held-out bytes; nothing when nothing was held out."""
    dataset = open_dataset(
        settings.data, window_bytes=settings.window_bytes, spool=RunFolder(folder).data
    )
    held_out = list(dataset.held_out_bytes())
    if not held_out:
        return {}
    try:
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes())
    except MissingExtraError:
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes(), ("gzip", "bzip2", "xz"))


def _sample(model: BitTransformerLM) -> str:
    import torch

    nothing = torch.zeros(1, 0, dtype=torch.uint8)
    generator = torch.Generator(model.network.embedding.nodes.device).manual_seed(0)
    new_bits = _SAMPLE_BYTES * model.config.bits_per_byte
    bits = model.generate(nothing, new_bits, temperature=0.8, generator=generator)
    from bit_transformer.bits.codec import bits_to_bytes

    return bits_to_bytes(bits[0].numpy(), parity=model.config.parity).decode(errors="replace")


def _print_report(result: RunResult, baselines: dict[str, float], sample: str) -> None:
    if result.held_out_bits_per_byte is not None:
        print_comparison(result.held_out_bits_per_byte, baselines, result.held_out_bytes)
    print(f"\nA sample of {_SAMPLE_BYTES} bytes at temperature 0.8:\n\n{sample}\n")
    print(
        f"{result.steps} steps over {result.data_bytes:,} bytes in {result.seconds:.0f} s, "
        f"{result.training_flops:.2e} training FLOPs"
    )
    print(f"Run folder: {result.folder}")
    print(f"Go on: bit-transformer generate {result.folder} --prompt 'your text'")
