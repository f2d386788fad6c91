"""Tests of choices that depend on the device. The devices are simulated."""

import os
import subprocess
import sys

import pytest
import torch

from bit_transformer import device
from bit_transformer.errors import ConfigError
from bit_transformer.training.precision import autocast


def _processor_with(monkeypatch, *features):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (("avx2", "fma3"), torch.float32),
        (("avx2", "avx512_f", "avx512_bw"), torch.float32),
        (("avx2", "avx512_f", "avx512_bf16"), torch.bfloat16),
        (("amx_bf16",), torch.bfloat16),
        (("neon", "bf16"), torch.bfloat16),
        (("neon", "dot"), torch.float32),
    ],
)
def test_the_number_format_follows_the_instructions(monkeypatch, features, expected):
    _processor_with(monkeypatch, *features)
    assert device.fast_dtype("cpu") == expected
    with autocast("cpu", "auto"):
        assert torch.is_autocast_enabled("cpu") == (expected == torch.bfloat16)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("AVX2", False), ("AVX512_CORE", False), ("AVX512_CORE_BF16", True), ("ALL", True)],
)
def test_instructions_that_the_user_forbids_are_not_used(monkeypatch, limit, expected):
    _processor_with(monkeypatch, "avx512_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert device.has_bf16("cpu") is expected


def test_an_unknown_kind_of_device_has_no_bfloat16():
    assert not device.has_bf16("mps")


def test_threads_wait_passively_unless_the_user_chose():
    chosen: dict[str, str] = {}
    device.prepare_threads(chosen)
    assert chosen["OMP_WAIT_POLICY"] == "PASSIVE"
    assert int(chosen["OMP_NUM_THREADS"]) == device.usable_cores()
    for name, value in (("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "100")):
        users = {name: value, "OMP_NUM_THREADS": "7"}
        device.prepare_threads(users)
        assert users == {name: value, "OMP_NUM_THREADS": "7"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", None)],
)
def test_a_container_grants_less_than_all_processors(tmp_path, monkeypatch, content, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    (tmp_path / "cpu.max").write_text(content)
    assert device.usable_cores(tmp_path) == (expected or 16)


def test_the_threads_chosen_are_those_that_torch_uses():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    code = (
        "import os, sys; from bit_transformer.device import prepare_threads, usable_cores;"
        "assert 'torch' not in sys.modules; prepare_threads(os.environ); import torch;"
        "assert torch.get_num_threads() == usable_cores()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def test_the_description_names_every_choice():
    found = device.describe()
    assert found["matrix_dtype"] == str(device.fast_dtype("cpu")).removeprefix("torch.")
    assert found["threads"] == torch.get_num_threads()
    assert {"device", "processor", "wait_policy", "bfloat16_in_hardware"} <= found.keys()


def test_devices():
    assert device.pick_device("cpu") == torch.device("cpu")
    for name in ("tpu9x", "meta", "xpu", "cuda:-1", ""):
        with pytest.raises(ConfigError, match=f"no device '{name}'"):
            device.pick_device(name)
    if not torch.cuda.is_available():
        assert device.pick_device("auto") == torch.device("cpu")
        with pytest.raises(ConfigError, match="no GPU is usable"):
            device.pick_device("cuda")
