"""Automatic bfloat16: matrix products in bfloat16, weights, sums and the loss in float32."""

import torch

from bit_transformer.device import has_bf16
from bit_transformer.training.config import Precision


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Context for a forward pass in this precision. With fp32 it does nothing.

    `auto` means bfloat16 on devices that have instructions for it.
    """
    kind = torch.device(device).type
    enabled = precision == "bf16" or (precision == "auto" and has_bf16(kind))
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


def cpu_autocast(enabled: bool = True) -> torch.autocast:
    """Context for a forward pass in bfloat16 on the CPU."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
