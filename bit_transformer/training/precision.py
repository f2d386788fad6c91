"""Automatic bfloat16: matrix products in bfloat16, weights, sums and the loss in float32."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Context for a forward pass in this precision; with fp32 it does nothing."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16")


def cpu_autocast(enabled: bool = True) -> torch.autocast:
    """Context for a forward pass in bfloat16 on the CPU."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
