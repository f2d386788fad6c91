"""Settings of older versions move to their present places, and older runs resume exactly."""

import dataclasses
import shutil
import tarfile
from pathlib import Path

import pytest

from bit_transformer import BitTransformerLM, RunConfig
from bit_transformer.errors import ConfigError
from bit_transformer.training.config import SECTIONS, current_sections
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, read_metrics

_ARCHIVE = Path(__file__).parents[1] / "checkpoint" / "run_of_version_1.tar.xz"
"""A run of 6 steps, with its checkpoint of step 4 and the records of all steps."""


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    monkeypatch.setattr("bit_transformer.training.callback_list.can_plot", lambda: False)
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_an_old_run_goes_on_as_it_went(old_run, tmp_path):
    recorded = read_metrics(old_run / "metrics.jsonl")
    config = RunFolder(old_run).config()
    assert (config.model.ponder_cost, config.objective.lambda_k) == (0.07, 0.01)
    assert (config.checkpoints.checkpoint_every, config.recovery.max_recoveries) == (4, 1)
    assert (config.evaluation.patience, config.objective.compress_prob) == (9, 0.1)
    shutil.move(old_run / "gdata", tmp_path / "gdata")
    data = dataclasses.replace(config.data, sources=(str(tmp_path / "gdata"),))
    result = train_run(dataclasses.replace(config, data=data), old_run, resume=True, progress=False)
    assert result.steps == 6
    found = read_metrics(old_run / "metrics.jsonl")
    assert [line["kind"] for line in found] == [line["kind"] for line in recorded]
    for name in ("loss", "gradient_norm", "bits_per_byte"):
        values = [[line[name] for line in lines if name in line] for lines in (found, recorded)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert RunFolder(old_run).config().to_dict().keys() == SECTIONS.keys()


def test_an_old_checkpoint_loads_for_inference(old_run):
    model = BitTransformerLM.from_pretrained(old_run)
    assert model.config.use_act
    assert model.score(b"Permission is hereby granted").bits_per_byte < 7.9


def test_former_sections_and_fields_are_found():
    former = {
        "train": {"steps": 3, "evaluate_every": 7, "use_checkpoint": True, "patience": 2},
        "regularizers": {"lambda_c": 0.5, "ponder_cost": 0.2},
        "run_length": {"direct_prob": 0.1},
    }
    config = RunConfig.from_dict(former)
    assert config.train.steps == 3
    assert (config.evaluation.evaluate_every, config.evaluation.patience) == (7, 2)
    assert config.parallel.use_checkpoint
    assert (config.objective.lambda_c, config.objective.direct_prob) == (0.5, 0.1)
    assert config.model.ponder_cost == 0.2
    assert former["train"]["evaluate_every"] == 7


def test_a_setting_in_its_present_section_counts():
    both = {"train": {"evaluate_every": 7}, "evaluation": {"evaluate_every": 9}}
    assert current_sections(both) == {"train": {}, "evaluation": {"evaluate_every": 9}}


def test_present_settings_stay_as_they_are():
    present = RunConfig().to_dict()
    assert current_sections(present) == present
    assert current_sections({"train": 3, "x": None}) == {"train": 3, "x": None}
    with pytest.raises(ConfigError, match=r"objective\.lambda_q: there is no such setting"):
        RunConfig.from_dict({"regularizers": {"lambda_q": 1.0}})
