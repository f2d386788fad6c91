"""Train a model, compare it with general compressors, print a sample."""

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
from bit_transformer.cli.output import print_comparison, print_json
from bit_transformer.cli.parsing import parse, parse_known
from bit_transformer.errors import ConfigError, Interrupted, MissingExtraError, StoppedError
from bit_transformer.model.config import PresetName, preset
from bit_transformer.training.config import RunConfig
from bit_transformer.waiting import waiting

if TYPE_CHECKING:
    import torch

    from bit_transformer.hub.mirror import HubMirror
    from bit_transformer.lm import BitTransformerLM
    from bit_transformer.training.callbacks.stop_signals import StopSignals
    from bit_transformer.training.result import RunResult
    from bit_transformer.training.run_folder import RunFolder

_RUNS = Path("runs")
_SAMPLE_BYTES = 400


@dataclass(frozen=True)
class TrainArguments:
    """Train a model on any bytes, compare it with general compressors, and print a sample.

    Without DATA, it trains on the Python standard library of this machine. Flags override --config,
    which overrides --preset, which overrides the defaults. With --resume, flags override the
    settings of the run.
    """

    data_sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="data")] = ()
    """Files, folders, globs, hf://OWNER/NAME data sets, or - for stdin."""
    out: Path | None = None
    """Run folder. By default a new one under runs/."""
    resume: bool = False
    """Resume the run in --out. Without --out, resume the run under runs/ that was written last."""
    preset: PresetName = "tiny"
    """Size of the model. The model options override single settings of it."""
    config: Path | None = None
    """TOML file of settings, with a section for each group of options below."""
    hf_repo: Annotated[str | None, RARE] = None
    """Hub repository, as user/name, that receives each new checkpoint. If it already holds this
    run, training resumes from there, also on another machine."""
    hf_token: Annotated[str | None, RARE] = None
    """Token of the hub for --hf-repo. HF_TOKEN and the hub's token file are safer: other users can
    see flags in the list of processes."""
    json: bool = False
    """Print the report as JSON."""
    verbose: bool = False
    """Print the device, number format and threads at the start. The report has them too."""
    settings: Annotated[
        RunConfig,
        Shown(
            *("d_model", "nhead", "num_layers", "dim_feedforward", "max_seq_len", "lr"),
            *("steps", "batch_size", "memory_budget", "device", "seed"),
        ),
    ] = field(default_factory=RunConfig)

    def run_config(self) -> RunConfig:
        """Return the settings of the run."""
        if not self.data_sources:
            return self.settings
        data = dataclasses.replace(self.settings.data, sources=self.data_sources)
        return dataclasses.replace(self.settings, data=data)


@dataclass(frozen=True)
class _Origin:
    """The flags that decide the defaults of all other flags."""

    out: Path | None = None
    resume: bool = False
    preset: PresetName = "tiny"
    config: Path | None = None

    def defaults(self) -> TrainArguments:
        """Return the defaults of all flags."""
        settings = RunConfig(model=preset(self.preset))
        if self.resume:
            from bit_transformer.training.run_folder import RunFolder

            settings = RunFolder(self.folder()).config()
        elif self.config is not None:
            settings = RunConfig.from_toml(self.config, preset(self.preset))
        return TrainArguments(settings=settings)

    def folder(self) -> Path:
        """Return the run folder."""
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
        print(f"bit-transformer: resuming {folder}", file=sys.stderr)
    from bit_transformer.training.callbacks.stop_signals import StopSignals, lasting_stderr

    with StopSignals() as signals, lasting_stderr():
        try:
            _train(arguments, folder, signals)
        except Interrupted as error:
            raise _stopped_at_once(folder, error.signal_number) from error


def _train(arguments: TrainArguments, folder: Path, signals: "StopSignals") -> None:
    from bit_transformer.device import pick_device
    from bit_transformer.training.callbacks.base import Callback
    from bit_transformer.training.fit import train_run
    from bit_transformer.training.run_folder import RunFolder

    settings = arguments.run_config()
    # Checked before anything is written.
    device = pick_device(settings.train.device)
    mirror = _mirror(arguments, folder)
    resume = arguments.resume
    callbacks: list[Callback] = [signals]
    if mirror is not None:
        callbacks.append(mirror)
        resume = mirror.prepare() or resume
    run_folder = RunFolder(folder)
    if arguments.verbose:
        _print_choices(device)
    if resume:
        # Raises an error without a run. It comes before the lock, which creates the folder.
        run_folder.config()
    with run_folder.writing():
        result = train_run(settings, folder, resume=resume, callbacks=callbacks)
        if result.interrupted:
            assert signals.number is not None
            done = f"stopped at step {result.steps} of {settings.train.steps}"
            raise StoppedError(f"{done}; {_how_to_resume(folder)}", signals.number)
        if signals.number is not None:
            # The signal came after the last checkpoint, when training was complete.
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


def _print_choices(device: "torch.device") -> None:
    """Print to stderr what was chosen for this device."""
    from bit_transformer.device import describe

    choices = (f"{name}: {value}" for name, value in describe(device).items())
    print(f"bit-transformer: {'; '.join(choices)}", file=sys.stderr)


def _stopped_at_once(folder: Path, number: int) -> StoppedError:
    """Return the error for a run that a signal ended: what is on disk, and how to resume."""
    from bit_transformer.training.run_folder import RunFolder

    run_folder = RunFolder(folder)
    if not run_folder.exists():
        return StoppedError(
            f"stopped before the run began; nothing was written to {folder}", number
        )
    saved = max(run_folder.checkpoints.steps(), default=None)
    if saved is None:
        done = "stopped before the first checkpoint, so nothing is saved"
        return StoppedError(f"{done}; start again with: {_resume(folder)}", number)
    if run_folder.report() is not None:
        done = f"stopped after training and before the comparison; {folder} is complete"
        remedy = f"compare it with: bit-transformer eval {shlex.quote(str(folder))}"
        return StoppedError(f"{done}; {remedy}", number)
    done = f"stopped; the last checkpoint is from step {saved}"
    return StoppedError(f"{done}; {_how_to_resume(folder)}", number)


def _how_to_resume(folder: Path) -> str:
    return f"resume with: {_resume(folder)}"


def _resume(folder: Path) -> str:
    return f"bit-transformer train --resume --out {shlex.quote(str(folder))}"


def _mirror(arguments: TrainArguments, folder: Path) -> "HubMirror | None":
    if arguments.hf_repo is None:
        if arguments.hf_token is not None:
            raise ConfigError("--hf-token needs --hf-repo; name a repository as well")
        return None
    from bit_transformer.hub.mirror import HubMirror

    return HubMirror(folder, arguments.hf_repo, token=arguments.hf_token)


def parse_settings(words: Sequence[str], *, command: str) -> TrainArguments:
    """Parse the flags of `train`, for another command that takes the same flags."""
    return parse(TrainArguments, words, command=command, default=_origin(words).defaults())


def _origin(words: Sequence[str]) -> _Origin:
    return parse_known(_Origin, words, command="train")


def _baselines(settings: RunConfig, run_folder: "RunFolder") -> dict[str, float]:
    """Return bits per byte of general compressors on all held-out bytes; empty without any."""
    import numpy as np

    from bit_transformer.inference.baselines import compressed_bits_per_byte

    held_out = list(run_folder.dataset(settings).held_out_bytes())
    if not held_out:
        return {}
    try:
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes())
    except MissingExtraError:
        # These three are part of Python; zstd and brotli are not installed.
        return compressed_bits_per_byte(np.concatenate(held_out).tobytes(), ("gzip", "bzip2", "xz"))


def _sample(model: "BitTransformerLM") -> str:
    from bit_transformer.inference.sampling_config import SamplingConfig

    (sample,) = model.sample(b"", _SAMPLE_BYTES, sampling=SamplingConfig(temperature=0.8), seed=0)
    return sample.content.decode(errors="replace")


def _print_report(result: "RunResult", baselines: dict[str, float], sample: str) -> None:
    if result.held_out_bits_per_byte is not None:
        data = f"{result.held_out_bytes:,} held-out bytes"
        print_comparison(result.held_out_bits_per_byte, baselines, data)
    print(f"\nA sample of {_SAMPLE_BYTES} bytes at temperature 0.8:\n\n{sample}\n")
    print(
        f"{result.steps} steps over {result.data_bytes:,} bytes in {result.seconds:.0f} s, "
        f"{result.training_flops:.2e} training FLOPs"
    )
    print(_gate_line(result.gate))
    print(f"Run folder: {result.folder}")
    print(f"Try it: bit-transformer generate {result.folder} --prompt 'your text'")


def _gate_line(gate: dict[str, Any]) -> str:
    if not gate.get("calibrated"):
        return f"Gate: {gate.get('reason', 'not calibrated')}"
    return (
        f"Gate: calibrated on {gate['windows']:,} held-out windows; it withholds at most "
        f"{gate['guaranteed']:.1%} of good output (with {gate['confidence']:.0%} confidence; "
        f"the target was {gate['asked']:.1%})"
    )
