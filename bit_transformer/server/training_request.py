"""Settings of a run in a request: the sections of the command line, with every field optional."""

import dataclasses
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ModelWrapValidatorHandler, PrivateAttr, model_validator

from bit_transformer.data.config import DataConfig
from bit_transformer.distributed.config import ParallelConfig
from bit_transformer.errors import ConfigError
from bit_transformer.model.config import ModelConfig, PresetName
from bit_transformer.model.config import preset as preset_of
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.server.schemas import Name, Request
from bit_transformer.server.workspace import Workspace
from bit_transformer.training.config import (
    SECTIONS,
    CheckpointConfig,
    EvaluationConfig,
    OptimizerConfig,
    RecoveryConfig,
    RunConfig,
    TrainConfig,
    current_sections,
)

_HUB_DATA = re.compile(r"hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(\?[\w=&.,-]*)?")
"""A data set by owner and name. After hf://, anything else could name a folder of this machine."""


class RunSettings(Request):
    """A run: its name and the sections of its settings."""

    run: Name | None = None
    """Name of the run; by default the date and time."""
    preset: PresetName = "tiny"
    """Size of the model. Fields of `model` override it."""
    data: DataConfig = DataConfig()
    """Training data: names of uploaded files, or hf://OWNER/NAME. The default is the Python
    standard library of the server."""
    model: ModelConfig = preset_of("tiny")
    """Sizes and features of the network."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizers and learning rates."""
    train: TrainConfig = TrainConfig()
    """Length of the run, its steps, precision and device."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Measurements during a run."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Intervals of checkpoints, and how many are kept."""
    recovery: RecoveryConfig = RecoveryConfig()
    """Reaction to training that goes bad."""
    parallel: ParallelConfig = ParallelConfig()
    """Use of devices: checkpointing of activations, compilation."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The training objective, and penalties on K, C and S."""
    _given: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _record_given_fields(
        cls, value: Any, handler: ModelWrapValidatorHandler["RunSettings"]
    ) -> "RunSettings":
        value = _current(value)
        made = handler(_over_preset(value))
        if isinstance(value, dict):
            made._given = {name: value[name] for name in SECTIONS if name in value}
        return made

    def resolved(self, workspace: Workspace, before: RunConfig | None = None) -> RunConfig:
        """Return the settings of the run, with the names of files replaced by their paths.

        Fields that the request leaves out come from `before` if a run is resumed, else from the
        defaults. Raises `ConfigError`, and `UnknownNameError` for a file that was not uploaded.
        """
        if before is None:
            before = RunConfig(model=preset_of(self.preset))
        sections = before.to_dict()
        config = RunConfig.from_dict(
            {name: sections[name] | self._given.get(name, {}) for name in SECTIONS}
        )
        sources = tuple(_source(workspace, source) for source in config.data.sources)
        return dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))


def new_run_name() -> str:
    """Return the default name of a new run: the date and time."""
    return datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _current(value: Any) -> Any:
    """The request with the settings of older clients in their present sections."""
    if not isinstance(value, dict):
        return value
    own = {name: one for name, one in value.items() if name in ("run", "preset")}
    rest = {name: one for name, one in value.items() if name not in own}
    return own | current_sections(rest)


def _over_preset(value: Any) -> Any:
    """Return the request with `model` completed from the preset, before it is validated."""
    try:
        base = preset_of(value.get("preset", "tiny")).to_dict()
        return {**value, "model": base | value.get("model", {})}
    except (AttributeError, ConfigError, TypeError):
        # The request is malformed. The schema says how.
        return value


def _source(workspace: Workspace, source: str) -> str:
    if source.startswith("hf://"):
        if not _HUB_DATA.fullmatch(source):
            raise ConfigError(
                f"{source!r} is not a data set of the hub; write hf://OWNER/NAME?split=train&..."
            )
        return source
    path = Path(source)
    if path.is_absolute() and path.parent == workspace.files:
        return str(workspace.file(path.name))
    if "/" in source or "\\" in source:
        raise ConfigError(
            f"{source!r} is not the name of an uploaded file; upload it with PUT /files/NAME and "
            "put NAME in data.sources, or resume a run on other files of this machine with "
            "`bit-transformer train --resume`"
        )
    return str(workspace.file(source))
