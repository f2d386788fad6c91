"""Every setting of a run: frozen dataclasses behind flags, TOML files and run folders."""

import difflib
import json
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from bit_transformer.data.config import DataConfig
from bit_transformer.errors import ConfigError, require
from bit_transformer.model.config import ModelConfig
from bit_transformer.objectives.config import RegularizerConfig, RunLengthConfig
from bit_transformer.training.schedule import ScheduleName

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
Precision = Literal["auto", "fp32", "bf16"]
OptimizerName = Literal["muon", "adamw", "lion", "adafactor"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Who updates which weights, and how fast."""

    optimizer: OptimizerName = "muon"
    """Optimizer of the trunk's matrices; embeddings and head always have AdamW."""
    lr: float | None = None
    """Peak learning rate of the matrices; None: the optimizer's own default."""
    embedding_lr: float = 2e-2
    """Peak learning rate of embeddings, head and projections (AdamW)."""
    memory_lr: float = 0.2
    """Peak learning rate of the context memory's rows (SparseAdam)."""
    weight_decay: float = 0.0
    """Decoupled decay of the matrices per step, times the learning rate."""
    momentum: float = 0.95
    """Momentum of Muon."""

    def __post_init__(self) -> None:
        for name in ("embedding_lr", "memory_lr"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        require(self.lr is None or self.lr > 0, "lr", self.lr, "above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """How long, in what steps, and what happens beside them."""

    steps: int = 600
    """Optimizer steps."""
    batch_size: int = 8
    """Windows per optimizer step, over all micro-batches."""
    accumulate: int = 1
    """Micro-batches per optimizer step; more of them need less memory."""
    memory_budget: str | None = None
    """Memory that training may take, such as 8GiB: as many micro-batches as that needs."""
    window_bytes: int | None = None
    """Bytes per training window; None fills the context."""
    schedule: ScheduleName = "wsd"
    """Warmup-stable-decay, one-cycle, or constant learning rate."""
    warmup: float = 0.02
    """Share of the steps over which the learning rate rises."""
    decay: float = 0.98
    """Share of the steps over which warmup-stable-decay falls to zero."""
    clip_norm: float = 0.0
    """Largest joint norm of the dense gradients; 0 does not clip."""
    weight_average: float = 0.0
    """Decay of the exponential moving average of the weights; 0: none."""
    precision: Precision = "auto"
    """bf16 runs matrix products in bfloat16; auto does so where the device is faster for it."""
    qat: bool = False
    """Train the trunk's matrices in 4 bits, to be converted by the command quantize afterwards;
    needs torchao."""
    use_checkpoint: bool = False
    """Keep only the input of each block between forward and backward pass, and run the block again:
    less memory, a third more time."""
    compile: bool = False
    """Compile the branches of each block; pays on a GPU, not on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Of weights, order of windows and dropout."""
    evaluate_every: int = 300
    """Steps between evaluations on held-out data; 0: only at the end."""
    evaluate_bytes: int = 65_536
    """Held-out bytes read by the evaluations along the way; the last one reads all."""
    telemetry_every: int = 10
    """Steps between readings of K, C, S and attention entropy; 0: none."""
    checkpoint_every: int = 300
    """Steps between checkpoints; 0: only at the end."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept; the best one by held-out bits per byte is kept beside them."""
    patience: int = 0
    """Evaluations without a better result before the run stops early; 0: never."""
    max_recoveries: int = 0
    """Times the run may return to an earlier state when its weights have gone bad; bad data is then
    skipped too. 0: stop at the first NaN or infinity."""
    recovery_every: int = 50
    """Steps between the states it can return to; two are held in memory and in checkpoints."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run folder."""
    trackio: bool = False
    """Also log to a local trackio project."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "keep_checkpoints", "recovery_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in (
            "clip_norm",
            "evaluate_every",
            "telemetry_every",
            "checkpoint_every",
            "patience",
            "max_recoveries",
        ):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("warmup", "decay"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 <= self.weight_average < 1, "weight_average", self.weight_average, "in [0, 1)")
        require(self.evaluate_bytes >= 1, "evaluate_bytes", self.evaluate_bytes, "at least 1")
        if self.window_bytes is not None:
            require(self.window_bytes >= 1, "window_bytes", self.window_bytes, "at least 1")
        if self.memory_budget is not None:
            parse_bytes(self.memory_budget)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size must be a multiple of accumulate, got {self.batch_size} and "
                f"{self.accumulate}; each micro-batch takes an equal share"
            )


def parse_bytes(text: str) -> int:
    """Bytes of `8GiB`, `500 MB`, `2g` or a plain number; K, M, G and T are powers of 1024.

    Raises `ConfigError` for anything else, and for less than one byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConfigError(f"memory_budget is a size such as 8GiB or 500MB, got {text!r}")
    return size


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. The same values give the same run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    regularizers: RegularizerConfig = field(default_factory=RegularizerConfig)
    run_length: RunLengthConfig = field(default_factory=RunLengthConfig)

    def __post_init__(self) -> None:
        if self.window_bytes * self.model.bits_per_byte > self.model.max_seq_len:
            raise ConfigError(
                f"window_bytes={self.window_bytes} needs a context of "
                f"{self.window_bytes * self.model.bits_per_byte} bits, max_seq_len is "
                f"{self.model.max_seq_len}; lower the one or raise the other"
            )
        require(self.window_bytes >= 1, "max_seq_len in bytes", self.window_bytes, "at least 1")

    @property
    def window_bytes(self) -> int:
        """Bytes per training window."""
        if self.train.window_bytes is not None:
            return self.train.window_bytes
        return self.model.max_seq_len // self.model.bits_per_byte

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values, a section each."""
        sections: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return sections

    @classmethod
    def from_dict(cls, sections: dict[str, Any]) -> "RunConfig":
        """Settings from sections `data`, `model`, `optimizer`, `train`, `regularizers` and
        `run_length`; any may be left out.

        Types are strict: the text "32" is no number, and true is none either. Raises `ConfigError`
        naming the first section and field that is unknown, of another type or out of its limits.
        """
        try:
            # As JSON, in which a list may be strict and become a tuple.
            return _ADAPTER.validate_json(json.dumps(sections, default=str), strict=True)
        except ValidationError as error:
            raise ConfigError(_explain(error.errors()[0])) from error

    @classmethod
    def from_toml(cls, path: Path, model: ModelConfig | None = None) -> "RunConfig":
        """Settings from a TOML file with the sections of `from_dict`; model settings that the file
        leaves out are those of `model`. Raises `ConfigError` naming the file."""
        try:
            # Some editors begin a file with a byte order mark.
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


# Unknown names must not pass in silence: a misspelt setting would train with its default. The
# docstrings go into JSON schemas, where forms and agents read them.
for _section in (
    *(DataConfig, ModelConfig, OptimizerConfig, TrainConfig),
    *(RegularizerConfig, RunLengthConfig),
    RunConfig,
):
    with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))(_section)
_ADAPTER = TypeAdapter(RunConfig)


def _explain(problem: "ErrorDetails") -> str:
    """What is wrong with which setting, in one sentence."""
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
    """The sections, or the settings of one."""
    names = {one.name: one.default_factory for one in fields(RunConfig)}
    if not place:
        return list(names)
    return [one.name for one in fields(names[place[0]])]  # type: ignore[arg-type]
