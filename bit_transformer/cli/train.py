"""Train a model, compare it with general compressors, sample."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.arguments import RARE, Shown
from bit_transformer.cli.output import parse, parse_known, print_comparison, print_json
from bit_transformer.errors import ConfigError, Interrupted, MissingExtraError, StoppedError
from bit_transformer.model.config import PresetName, preset
from bit_transformer.training.config import RunConfig
from bit_transformer.waiting import waiting

# What loads torch is imported where it is used, so that help and usage errors are fast.
if TYPE_CHECKING:
    from bit_transformer.hub.mirror import HubMirror
    from bit_transformer.lm import BitTransformerLM
    from bit_transformer.training.callbacks.stop_signals import StopSignals
    from bit_transformer.training.result import RunResult
    from bit_transformer.training.run_folder import RunFolder

_RUNS = Path("runs")
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
    """Go on with the run in --out, or with the one under runs/ that was written to last."""
    preset: PresetName = "tiny"
    """Size of the model: the model settings it stands for are in the README."""
    config: Path | None = None
    """TOML file with a section for each group of settings below."""
    hf_repo: Annotated[str | None, RARE] = None
    """Repository on a hub, as in user/name, that is kept at the newest checkpoint; where it holds
    this run already, on a new machine say, training goes on from there."""
    hf_token: Annotated[str | None, RARE] = None
    """The hub's token for --hf-repo; better left to HF_TOKEN or the hub's token file, which no list
    of processes shows."""
    json: bool = False
    """Print the report as JSON."""
    verbose: bool = False
    """Say at the start which device, number format and threads were chosen; the report has them
    too."""
    settings: Annotated[
        RunConfig,
        Shown(
            *("d_model", "nhead", "num_layers", "dim_feedforward", "max_seq_len", "lr"),
            *("steps", "batch_size", "memory_budget", "device", "seed"),
        ),
    ] = field(default_factory=RunConfig)

    def run_config(self) -> RunConfig:
        """The settings of the run."""
        if not self.data_sources:
            return self.settings
        data = dataclasses.replace(self.settings.data, sources=self.data_sources)
        return dataclasses.replace(self.settings, data=data)


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
            from bit_transformer.training.run_folder import RunFolder

            settings = RunFolder(self.folder()).config()
        elif self.config is not None:
            settings = RunConfig.from_toml(self.config, preset(self.preset))
        return TrainArguments(settings=settings)

    def folder(self) -> Path:
        """The run folder that is meant."""
        if self.out is not None:
            return self.out
        if self.resume:
            from bit_transformer.training.run_folder import newest_run

            return newest_run(_RUNS).path
        name = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        return next(path for one in names if not (path := _RUNS / one).exists())


def run(words: Sequence[str]) -> None:
    """Run the command."""
    origin = _origin(words)
    arguments = parse(TrainArguments, words, command="train", default=origin.defaults())
    folder = origin.folder()
    if origin.resume and origin.out is None:
        print(f"bit-transformer: going on with {folder}", file=sys.stderr)
    from bit_transformer.training.callbacks.stop_signals import StopSignals, lasting_stderr

    with StopSignals() as signals, lasting_stderr():
        try:
            _train(arguments, folder, signals)
        except Interrupted as error:
            raise _stopped_at_once(folder, error.signal_number) from error


def _train(arguments: TrainArguments, folder: Path, signals: "StopSignals") -> None:
    from bit_transformer.training.callbacks.base import Callback
    from bit_transformer.training.fit import train_run
    from bit_transformer.training.run_folder import RunFolder

    settings = arguments.run_config()
    mirror = _mirror(arguments, folder)
    resume = arguments.resume
    callbacks: list[Callback] = [signals]
    if mirror is not None:
        callbacks.append(mirror)
        resume = mirror.prepare() or resume
    run_folder = RunFolder(folder)
    if arguments.verbose:
        _tell_choices(settings.train.device)
    if resume:
        # Before the lock, which makes the folder: where there is no run nothing is made.
        run_folder.config()
    with run_folder.writing():
        result = train_run(settings, folder, resume=resume, callbacks=callbacks)
        if result.interrupted:
            assert signals.number is not None
            done = f"stopped at step {result.steps} of {settings.train.steps}"
            raise StoppedError(f"{done}; {_way_on(folder)}", signals.number)
        if signals.number is not None:
            # It came when the last checkpoint was whole and nothing was left to break off.
            raise Interrupted(signals.number)
        report = run_folder.report() or {}
        with waiting("compressing the held-out data with general compressors"):
            report["baselines"] = _baselines(settings, run_folder)
        with waiting("sampling"):
            report["sample"] = _sample(result.model)
        run_folder.write_report(report)
        if mirror is not None:
            mirror.push_result()
    if arguments.json:
        print_json({"run": str(folder), **report})
    else:
        _print_report(result, report["baselines"], report["sample"])
    result.require_learned()


def _tell_choices(name: str) -> None:
    """On stderr, what was decided from what the device can do."""
    from bit_transformer.device import describe, pick_device

    choices = (f"{what}: {value}" for what, value in describe(pick_device(name)).items())
    print(f"bit-transformer: {'; '.join(choices)}", file=sys.stderr)


def _stopped_at_once(folder: Path, number: int) -> StoppedError:
    """What is told of a run that a signal has ended at once: what of it is on disk, the way on."""
    from bit_transformer.training.run_folder import RunFolder

    run_folder = RunFolder(folder)
    if not run_folder.exists():
        return StoppedError(f"stopped before the run began; nothing is in {folder}", number)
    saved = max(run_folder.checkpoints.steps(), default=None)
    if saved is None:
        done = "stopped before the first checkpoint, so nothing of the run is saved"
        return StoppedError(f"{done}; begin again with: {_resume(folder)}", number)
    if run_folder.report() is not None:
        done = f"stopped after the run had ended and before it was compared; {folder} is complete"
        way = f"compare it with: bit-transformer eval {shlex.quote(str(folder))}"
        return StoppedError(f"{done}; {way}", number)
    return StoppedError(
        f"stopped; the last checkpoint is of step {saved}; {_way_on(folder)}", number
    )


def _way_on(folder: Path) -> str:
    return f"go on with: {_resume(folder)}"


def _resume(folder: Path) -> str:
    return f"bit-transformer train --resume --out {shlex.quote(str(folder))}"


def _mirror(arguments: TrainArguments, folder: Path) -> "HubMirror | None":
    if arguments.hf_repo is None:
        if arguments.hf_token is not None:
            raise ConfigError("--hf-token is for --hf-repo; name a repository as well")
        return None
    from bit_transformer.hub.mirror import HubMirror

    return HubMirror(folder, arguments.hf_repo, token=arguments.hf_token)


def parse_settings(words: Sequence[str], *, command: str) -> TrainArguments:
    """The arguments, over the defaults that some of them choose."""
    return parse(TrainArguments, words, command=command, default=_origin(words).defaults())


def _origin(words: Sequence[str]) -> _Origin:
    return parse_known(_Origin, words, command="train")


def _baselines(settings: RunConfig, run_folder: "RunFolder") -> dict[str, float]:
    """General compressors on all held-out bytes; nothing when nothing was held out."""
    import numpy as np

    from bit_transformer.inference.baselines import compressed_bits_per_byte

    held_out = list(run_folder.dataset(settings).held_out_bytes())
    if not held_out:
        return {}
    try:
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes())
    except MissingExtraError:
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes(), ("gzip", "bzip2", "xz"))


def _sample(model: "BitTransformerLM") -> str:
    import torch

    from bit_transformer.bits.codec import bits_to_bytes

    nothing = torch.zeros(1, 0, dtype=torch.uint8)
    generator = torch.Generator(model.network.device).manual_seed(0)
    new_bits = _SAMPLE_BYTES * model.config.bits_per_byte
    bits = model.generate(nothing, new_bits, temperature=0.8, generator=generator)
    return bits_to_bytes(bits[0].numpy(), parity=model.config.parity).decode(errors="replace")


def _print_report(result: "RunResult", baselines: dict[str, float], sample: str) -> None:
    if result.held_out_bits_per_byte is not None:
        print_comparison(result.held_out_bits_per_byte, baselines, result.held_out_bytes)
    print(f"\nA sample of {_SAMPLE_BYTES} bytes at temperature 0.8:\n\n{sample}\n")
    print(
        f"{result.steps} steps over {result.data_bytes:,} bytes in {result.seconds:.0f} s, "
        f"{result.training_flops:.2e} training FLOPs"
    )
    print(_gate_line(result.gate))
    print(f"Run folder: {result.folder}")
    print(f"Go on: bit-transformer generate {result.folder} --prompt 'your text'")


def _gate_line(gate: dict[str, Any]) -> str:
    if not gate.get("calibrated"):
        return f"Gate: {gate.get('reason', 'not calibrated')}"
    return (
        f"Gate: calibrated on {gate['windows']:,} held-out windows; it holds back at most "
        f"{gate['guaranteed']:.1%} of good output (with {gate['confidence']:.0%} confidence; "
        f"{gate['asked']:.1%} was asked for)"
    )
