"""Settings survive TOML and JSON, and every bad value raises one clear error."""

import pytest

from bit_transformer import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.errors import ConfigError


def test_settings_round_trip():
    config = RunConfig(model=ModelConfig(memory_bits=(16,)), train=TrainConfig(window_bytes=100))
    assert RunConfig.from_dict(config.to_dict()) == config
    assert RunConfig.from_dict({}) == RunConfig()


def test_toml_sections_fill_in_over_the_given_model(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        '[data]\nsources = ["a.txt"]\n[model]\nnhead = 2\n[optimizer]\noptimizer = "lion"\n'
        "[train]\nsteps = 7\n"
    )
    config = RunConfig.from_toml(path, ModelConfig(d_model=64))
    assert config.data.sources == ("a.txt",)
    assert (config.model.d_model, config.model.nhead) == (64, 2)
    assert config.optimizer.optimizer == "lion"
    assert config.train.steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[train]\nstep = 7\n",
            r"run.toml: train.step: there is no such setting; did you mean steps\?",
        ),
        ("[trian]\nsteps = 7\n", r"trian: there is no such section; did you mean train\?"),
        ("[train]\nxyz = 7\n", r"train.xyz: there is no such setting; there are steps, batch_size"),
        ("steps = 7\n", r"run.toml: steps: there is no such section; there are data, model,"),
        ("[train]\nsteps = 0\n", r"run.toml: train: steps must be at least 1, got 0"),
        (
            '[train]\nsteps = "many"\n',
            r'run.toml: train.steps: input should be a valid integer, got "many"',
        ),
        ('[model]\nd_model = "32"\n', r'model.d_model: input should be a valid integer, got "32"'),
        ("[train]\nsteps = true\n", r"train.steps: input should be a valid integer, got true"),
        ("[train]\nsteps = 7.0\n", r"train.steps: input should be a valid integer, got 7.0"),
        ("[train]\nwarmup = true\n", r"train.warmup: input should be a valid number, got true"),
        ('[train]\nqat = "no"\n', r'train.qat: input should be a valid boolean, got "no"'),
        ("[train]\ndevice = 2\n", r"train.device: input should be a valid string, got 2"),
        ('[data]\nsources = "a"\n', r"data.sources: input should be a valid array"),
        ("model = 3\n", r"run.toml: model: input should be"),
        ("[train]\nsteps = 2026-01-01\n", r"train.steps: input should be a valid integer"),
        ("[model]\nd_model = 10\nnhead = 3\n", r"model: d_model must be divisible"),
        ("[train\n", r"cannot read settings from"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_toml(path, ModelConfig())


def test_numbers_are_numbers_and_a_byte_order_mark_is_none(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[optimizer]\nlr = 1\n[train]\nclip_norm = 2\n")
    config = RunConfig.from_toml(path)
    assert (config.optimizer.lr, config.train.clip_norm) == (1.0, 2.0)
    path.write_bytes("[train]\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        RunConfig.from_toml(path)


def test_a_missing_toml_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read settings"):
        RunConfig.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: TrainConfig(batch_size=5, accumulate=2), "multiple of accumulate, got 5 and 2"),
        (lambda: TrainConfig(warmup=1.5), "warmup must be in"),
        (lambda: TrainConfig(weight_average=1.0), "weight_average must be in"),
        (lambda: TrainConfig(window_bytes=0), "window_bytes must be at least 1"),
        (lambda: TrainConfig(clip_norm=-1.0), "clip_norm must be at least 0"),
        (lambda: OptimizerConfig(lr=0.0), "lr must be above 0"),
        (lambda: OptimizerConfig(memory_lr=-1.0), "memory_lr must be above 0"),
        (lambda: OptimizerConfig(momentum=1.0), "momentum must be in"),
        (
            lambda: RunConfig(train=TrainConfig(window_bytes=10_000)),
            "a context of 80000 bits",
        ),
        (lambda: RunConfig(model=ModelConfig(patch_size=2, max_seq_len=4)), "in bytes must be"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
