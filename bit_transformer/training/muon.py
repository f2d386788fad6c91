"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) at the speed of the device.

`torch.optim.Muon` orthogonalises every matrix in bfloat16. A processor without bfloat16
instructions emulates them, and the optimizer then takes 70 to 80 % of a training step. Here the
number format follows what the device can do, and matrices of one shape are iterated together.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Muon

from bit_transformer.device import fast_dtype

_SMALLEST_NORM = 1e-7
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class FastMuon(Muon):
    """torch's Muon: the same settings, states and update, computed in another way."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all matrices that have a gradient; what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices: list[Tensor] = [one for one in group["params"] if one.grad is not None]
            if matrices:
                directions = self._directions(matrices, group["momentum"])
                _move(matrices, directions, group["lr"], group["weight_decay"])
        return loss

    def _directions(self, matrices: list[Tensor], momentum: float) -> list[Tensor]:
        """Nesterov's look-ahead of each matrix's gradient; brings the momenta up to date."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [self._momentum_of(matrix) for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, momenta, momentum))

    def _momentum_of(self, matrix: Tensor) -> Tensor:
        # Under torch's own name, so that checkpoints written with torch's Muon go on with this one.
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def _move(matrices: list[Tensor], directions: list[Tensor], lr: float, weight_decay: float) -> None:
    """Step against the orthogonalised directions, with decoupled weight decay."""
    if weight_decay:
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
    alike = defaultdict[torch.Size, list[int]](list)
    for index, direction in enumerate(directions):
        alike[direction.shape].append(index)
    for (rows, columns), indices in alike.items():
        moves = orthogonalize(torch.stack([directions[index] for index in indices]))
        # So that the root mean square of an update is the same whatever the shape.
        rate = lr * math.sqrt(max(1.0, rows / columns))
        for index, move in zip(indices, moves, strict=True):
            matrices[index].add_(move, alpha=-rate)


def orthogonalize(
    matrices: Float[Tensor, "n r c"], dtype: torch.dtype | None = None
) -> Float[Tensor, "n r c"]:
    """Each matrix with its singular values moved to about 1 (0.7 to 1.2), by a quintic
    Newton-Schulz iteration; in `dtype`, by default the fast one of the device.
    """
    dtype = fast_dtype(matrices.device) if dtype is None else dtype
    _, rows, columns = matrices.shape
    wide = (matrices if rows <= columns else matrices.mT).to(dtype)
    norm = torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=_SMALLEST_NORM)
    wide = wide / norm
    # With twice as many columns as rows it is cheaper to iterate on the products of rows. They
    # square the condition number, which float32 bears and bfloat16 does not.
    gram = dtype != torch.bfloat16 and 2 * min(rows, columns) <= max(rows, columns)
    wide = _iterate_gram(wide) if gram else _iterate(wide)
    return wide if rows <= columns else wide.mT


def _iterate(x: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """X <- (a + b X X^T + c (X X^T)^2) X, as often as Muon does."""
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        products = x @ x.mT
        polynomial = torch.baddbmm(products, products, products, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _iterate_gram(x: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """The same polynomials of A = X X^T alone, multiplied up, and applied to X at the end.

    All of them commute: A becomes P A P where X would become P X.
    """
    a, b, c = _COEFFICIENTS
    products = x @ x.mT
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    total = torch.baddbmm(products, products, products, beta=b, alpha=c) + a * identity
    polynomial = total
    for _ in range(_ITERATIONS - 1):
        products = polynomial @ products @ polynomial
        polynomial = torch.baddbmm(products, products, products, beta=b, alpha=c) + a * identity
        total = polynomial @ total
    return total @ x
