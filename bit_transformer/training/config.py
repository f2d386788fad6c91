"""Every setting of a run, as frozen dataclasses. Flags, TOML files and run folders use them."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from bit_transformer.data.config import DataConfig
from bit_transformer.distributed.config import ParallelConfig
from bit_transformer.errors import ConfigError, require
from bit_transformer.model.config import ModelConfig
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.settings import Settings
from bit_transformer.training.schedule import ScheduleName

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
Precision = Literal["auto", "fp32", "bf16"]
OptimizerName = Literal["muon", "adamw", "lion", "adafactor"]


@dataclass(frozen=True)
class OptimizerConfig(Settings):
    """Optimizers of the weights and their learning rates."""

    optimizer: OptimizerName = "muon"
    """Optimizer of the trunk's matrices. Embeddings and head always use AdamW."""
    lr: float | None = None
    """Peak learning rate of the matrices; None: the default of the optimizer."""
    embedding_lr: float = 2e-2
    """Peak learning rate of embeddings, head and projections (AdamW)."""
    memory_lr: float = 0.2
    """Peak learning rate of the context memory's rows (SparseAdam)."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the matrices per step, times the learning rate."""
    momentum: float = 0.95
    """Momentum of Muon."""

    def __post_init__(self) -> None:
        for name in ("embedding_lr", "memory_lr"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        require(self.lr is None or self.lr > 0, "lr", self.lr, "above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Length of the run, its steps, precision and device."""

    steps: int = 600
    """Optimizer steps."""
    batch_size: int = 8
    """Windows per optimizer step, over all micro-batches."""
    accumulate: int = 1
    """Micro-batches per optimizer step; more of them need less memory."""
    memory_budget: str | None = None
    """Memory that training may take, such as 8GiB; the number of micro-batches is chosen for it."""
    window_bytes: int | None = None
    """Bytes per training window; None fills the context."""
    schedule: ScheduleName = "wsd"
    """Learning rate schedule: warmup-stable-decay, one-cycle, or constant."""
    warmup: float = 0.02
    """Share of the steps over which the learning rate rises."""
    decay: float = 0.98
    """Share of the steps over which warmup-stable-decay falls to zero."""
    clip_norm: float = 0.0
    """Largest joint norm of the dense gradients; 0: no clipping."""
    weight_average: float = 0.0
    """Decay of the exponential moving average of the weights; 0: no average."""
    precision: Precision = "auto"
    """bf16 computes matrix products in bfloat16; auto does so where the device is faster for it."""
    qat: bool = False
    """Train the trunk's matrices in 4 bits, for the command quantize afterwards; needs torchao."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of weights, order of windows and dropout."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run folder."""
    trackio: bool = False
    """Also log to a local trackio project."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "at least 0")
        for name in ("warmup", "decay"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 <= self.weight_average < 1, "weight_average", self.weight_average, "in [0, 1)")
        if self.window_bytes is not None:
            require(self.window_bytes >= 1, "window_bytes", self.window_bytes, "at least 1")
        if self.memory_budget is not None:
            parse_bytes(self.memory_budget)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size must be a multiple of accumulate, got {self.batch_size} and "
                f"{self.accumulate}; each micro-batch takes an equal share"
            )


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """Measurements during a run."""

    evaluate_every: int = 300
    """Steps between evaluations on held-out data; 0: only at the end."""
    evaluate_bytes: int = 65_536
    """Held-out bytes read by the evaluations along the way; the last one reads all."""
    telemetry_every: int = 10
    """Steps between measurements of K, C, S and attention entropy; 0: none."""
    patience: int = 0
    """Evaluations without a better result before the run stops early; 0: never."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "telemetry_every", "patience"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        require(self.evaluate_bytes >= 1, "evaluate_bytes", self.evaluate_bytes, "at least 1")


@dataclass(frozen=True)
class CheckpointConfig(Settings):
    """Intervals of checkpoints, and how many are kept."""

    checkpoint_every: int = 300
    """Steps between checkpoints; 0: only at the end."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept; the best one by held-out bits per byte is kept beside them."""

    def __post_init__(self) -> None:
        every, keep = self.checkpoint_every, self.keep_checkpoints
        require(every >= 0, "checkpoint_every", every, "at least 0")
        require(keep >= 1, "keep_checkpoints", keep, "at least 1")


@dataclass(frozen=True)
class RecoveryConfig(Settings):
    """How a run recovers from bad data and from divergence."""

    max_recoveries: int = 0
    """Times the run may return to an earlier state when its weights have gone bad; bad data is then
    skipped too. 0: stop at the first NaN or infinity."""
    recovery_every: int = 50
    """Steps between the states it can return to; memory and checkpoints hold two of them."""

    def __post_init__(self) -> None:
        require(self.max_recoveries >= 0, "max_recoveries", self.max_recoveries, "at least 0")
        require(self.recovery_every >= 1, "recovery_every", self.recovery_every, "at least 1")


def parse_bytes(text: str) -> int:
    """The size in bytes of a text such as `8GiB`, `500 MB`, `2g` or `4096`. K is 1024 bytes.

    Raises `ConfigError` for any other text, and for less than one byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConfigError(f"memory_budget must be a size such as 8GiB or 500MB, got {text!r}")
    return size


@dataclass(frozen=True)
class RunConfig(Settings):
    """All settings of a run. The same values give the same run."""

    data: DataConfig = field(default_factory=DataConfig)
    """The data to train on."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes and switches of the network."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizers of the weights and their learning rates."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Length of the run, its steps, precision and device."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Measurements during a run."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Intervals of checkpoints, and how many are kept."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """How a run recovers from bad data and from divergence."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """Use of devices: checkpointing of activations, compilation."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The objective, and penalties on K, C and S."""

    def __post_init__(self) -> None:
        if self.window_bytes * self.model.bits_per_byte > self.model.max_seq_len:
            raise ConfigError(
                f"window_bytes={self.window_bytes} needs a context of "
                f"{self.window_bytes * self.model.bits_per_byte} bits, but max_seq_len is "
                f"{self.model.max_seq_len}; lower window_bytes or raise max_seq_len"
            )
        require(self.window_bytes >= 1, "max_seq_len in bytes", self.window_bytes, "at least 1")

    @property
    def window_bytes(self) -> int:
        """Bytes per training window."""
        if self.train.window_bytes is not None:
            return self.train.window_bytes
        return self.model.max_seq_len // self.model.bits_per_byte

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, one dictionary per section."""
        sections: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return sections

    @classmethod
    def from_dict(cls, sections: dict[str, Any]) -> "RunConfig":
        """Settings from sections, any of which may be left out.

        Settings of older versions are found in their former sections. Types are strict: the text
        "32" is not a number, and neither is true. Raises `ConfigError` naming the first section and
        field that is unknown, of another type or outside its limits.
        """
        try:
            # As JSON, because strict validation of JSON accepts a list for a tuple.
            given = json.dumps(current_sections(sections), default=str)
            return _adapter().validate_json(given, strict=True)
        except ValidationError as error:
            raise ConfigError(_explain(error.errors()[0])) from error

    @classmethod
    def from_toml(cls, path: Path, model: ModelConfig | None = None) -> "RunConfig":
        """Settings from a TOML file with the sections of `from_dict`.

        `model` supplies the model settings that the file leaves out. Raises `ConfigError` naming
        the file.
        """
        try:
            # utf-8-sig, because some editors begin a file with a byte order mark.
            sections = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"cannot read settings from {path}: it is not UTF-8 text ({error.reason} at byte "
                f"{error.start}); save it as UTF-8"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot read settings from {path}: {error.strerror or error}; name a TOML file"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"cannot read settings from {path}: {error}") from error
        given = sections.get("model", {})
        if model is not None and isinstance(given, dict):
            sections["model"] = model.to_dict() | given
        try:
            return cls.from_dict(sections)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


SECTIONS = {one.name: one.default_factory for one in fields(RunConfig)}
"""The class of each section of a run's settings, by name and in order."""
_FORMER_SECTIONS = {"regularizers": "objective", "run_length": "objective"}
_MOVED_FIELDS = {
    ("regularizers", "ponder_cost"): "model",
    **{
        ("train", one.name): name
        for name in ("evaluation", "checkpoints", "recovery", "parallel")
        for one in fields(SECTIONS[name])  # type: ignore[arg-type]
    },
}
"""The present section of each setting that an older version had in another one."""


def current_sections(sections: dict[str, Any]) -> dict[str, Any]:
    """Move the settings of older versions to their present sections.

    If a setting is in both places, the value in the present section wins. Nothing is validated.
    """
    current = {name: given for name, given in sections.items() if name not in _FORMER_SECTIONS}
    current = {name: dict(v) if isinstance(v, dict) else v for name, v in current.items()}
    for section, name, value in _all_fields(sections):
        home = _MOVED_FIELDS.get((section, name), _FORMER_SECTIONS.get(section, section))
        there = current.setdefault(home, {})
        if home != section and isinstance(there, dict):
            there.setdefault(name, value)
            current.get(section, {}).pop(name, None)
    return current


def _all_fields(sections: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for section, given in sections.items():
        if isinstance(given, dict):
            yield from ((section, name, value) for name, value in given.items())


@cache
def _adapter() -> Any:
    return TypeAdapter(RunConfig)


def _explain(problem: "ErrorDetails") -> str:
    """A sentence that names the setting and its fault."""
    place = [str(part) for part in problem["loc"]]
    where = ".".join(place) or "settings"
    if problem["type"] == "unexpected_keyword_argument":
        known = _names(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        kind = "setting" if len(place) > 1 else "section"
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{where}: there is no such {kind}; {remedy}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "missing"):
        return f"{where}: {message}"
    return f"{where}: {message[:1].lower()}{message[1:]}, got {json.dumps(problem['input'])}"


def _names(place: list[str]) -> list[str]:
    """Names of the sections, or of the settings in one."""
    if not place:
        return list(SECTIONS)
    return [one.name for one in fields(SECTIONS[place[0]])]  # type: ignore[arg-type]
