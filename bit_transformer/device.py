"""Every choice that depends on the processor: number format, number of threads, wait policy.

No other module makes such a choice. `describe` returns what was chosen; the report of a run records
it, and --verbose prints it.

Torch is imported inside the functions, because `prepare_threads` must run before it is loaded.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bit_transformer.errors import ConfigError

if TYPE_CHECKING:
    import torch

_BF16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")
_ISA_WITH_BF16 = ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10")
_CGROUP = Path("/sys/fs/cgroup")
_WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE"}
_USERS_WAIT_POLICY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def has_bf16(kind: str) -> bool:
    """Whether devices of a kind ("cpu", "cuda") multiply bfloat16 in hardware.

    Other devices emulate bfloat16, which is many times slower than float32.
    """
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    # The user can forbid oneDNN, the library that multiplies, to use some instructions.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if not any(part in limit for part in _ISA_WITH_BF16):
        return False
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in _BF16_FEATURES)


def fast_dtype(device: "torch.device | str") -> "torch.dtype":
    """Return the fastest number format for matrix products that may run in reduced precision."""
    import torch

    return torch.bfloat16 if has_bf16(torch.device(device).type) else torch.float32


def pick_device(name: str) -> "torch.device":
    """Return the device of that name; `auto` is the first GPU, or the CPU without a GPU.

    Raises `ConfigError` for a device that is unknown or cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device {name!r} cannot be used: no GPU is usable; use auto or cpu")
        # Torch accepts names of devices that are absent, such as cuda:9, or that cannot compute.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(f"there is no device {name!r}; use auto, cpu or cuda") from error
    return device


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of processors this process may use: those it may run on, or fewer if the
    CPU quota of a container is smaller."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return allowed


def prepare_threads(environment: MutableMapping[str, str]) -> None:
    """Set how many threads OpenMP starts and how they wait. Call this before torch is loaded.

    Threads that spin while they wait lose most of their time when another program runs too, because
    each waits for a thread that is not scheduled; benchmarks/bench_contention.py measures it.
    Variables that the user has set are not changed.
    """
    environment.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    if not any(name in environment for name in _USERS_WAIT_POLICY):
        environment.update(_WAIT_POLICY)


def describe(device: "torch.device | str" = "cpu") -> dict[str, Any]:
    """Return the choices for this device, as values for JSON."""
    import torch

    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {
        "device": str(device),
        "processor": name,
        "threads": torch.get_num_threads(),
        "wait_policy": _wait_policy(os.environ),
        "bfloat16_in_hardware": has_bf16(device.type),
        "matrix_dtype": str(fast_dtype(device)).removeprefix("torch."),
    }


def _wait_policy(environment: MutableMapping[str, str]) -> str:
    chosen = [f"{name}={environment[name]}" for name in _USERS_WAIT_POLICY if name in environment]
    return ", ".join(chosen) or "OpenMP's default"


def _processor_name() -> str:
    import torch

    return str(torch.cpu.get_capabilities().get("cpu_name", "CPU"))
