"""The bit tree that predicts: one logit per inner node, an exact chain rule over a patch's bits.

Bit i of the next patch is scored by the node of the prefix seen so far. The 2**P - 1 inner nodes
have the degrees of freedom of a softmax over 2**P values, and any prefix of a patch is a valid
prompt.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.norm import rms_norm

PARITY_LOGIT = 60.0
"""Logit of a known parity bit: its code length, log2(1 + e**-60), is below float32's resolution."""


class BitTreeHead(nn.Module):
    """Logits of a one at each inner node; `nodes` is (inner nodes + 1, D), row 0 unused.

    With parity, the last bit of a patch is no prediction: its nodes are constants, so parity bits
    cost no model bits.
    """

    def __init__(
        self, patch_size: int, d_model: int, *, parity: bool, logit_cap: float = 0.0
    ) -> None:
        super().__init__()
        self.parity, self.logit_cap = parity, logit_cap
        self.nodes = nn.Parameter(torch.zeros(2 ** (patch_size - parity), d_model))
        if parity:
            ones = torch.tensor([value.bit_count() % 2 for value in range(2 ** (patch_size - 1))])
            known = torch.where(ones == 1, PARITY_LOGIT, -PARITY_LOGIT)
            self.register_buffer("parity_logits", known, persistent=False)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S nodes"]:
        """Logits of all inner nodes of the next patch; nodes is 2**P, entry 0 is meaningless."""
        logits = functional.linear(rms_norm(x), self.nodes)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.logit_cap:
            # Soft capping: Gemma 2, arXiv:2408.00118, section 2.
            logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        if not self.parity:
            return logits
        known = self.get_buffer("parity_logits").to(logits.dtype)
        return torch.cat((logits, known.expand(*logits.shape[:-1], -1)), dim=-1)
