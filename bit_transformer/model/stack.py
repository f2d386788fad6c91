"""How the blocks of the trunk are run. A stack calls the two branches of each block itself, so that
another stack can run them in another way without touching a block."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache, LayerCache
from bit_transformer.model.config import ModelConfig

BlockRunner = Callable[[Block, Tensor, AttentionContext, LayerCache | None], Tensor]


def run_block(
    block: Block,
    x: Float[Tensor, "B S D"],
    context: AttentionContext,
    cache: LayerCache | None = None,
) -> Float[Tensor, "B S D"]:
    """The residual stream after both branches."""
    x = x + block.attention(x, context, cache)
    return x + block.feed_forward(x)


class Stack(nn.Module):
    """Blocks in the order in which they run."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def __iter__(self) -> Iterator[Block]:
        return iter(cast("Iterable[Block]", self.blocks))

    def exits(
        self, x: Float[Tensor, "B S D"], context: AttentionContext
    ) -> tuple[Float[Tensor, "E B S D"], Float[Tensor, "B S E"]]:
        """The stream at each place where a position may stop, and the probability that it does;
        here the one place is the end."""
        return self(x, context)[None], x.new_ones(*x.shape[:2], 1)

    def halting_probabilities(
        self, activations: Float[Tensor, "L B S D"]
    ) -> Float[Tensor, "B S L"]:
        """Probability that a position stops after each block, given the stream after each; here all
        of them stop after the last."""
        layers, batch, positions, _ = activations.shape
        halting = activations.new_zeros(batch, positions, layers)
        halting[:, :, -1] = 1
        return halting


class PlainStack(Stack):
    """Pre-norm residual blocks, one after the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.run_block: BlockRunner = run_block

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The residual stream after the last block."""
        for index, block in enumerate(self):
            x = self.run_block(block, x, context, None if cache is None else cache.layers[index])
        return x


class ReversibleStack(Stack):
    """Two residual streams, each updated from the other alone (Gomez et al. 2017,
    arXiv:1707.04585): `a += attention(b); b += feed_forward(a)`.

    The inputs of every block follow from its outputs, so that the backward pass computes them again
    and no activation is kept between the passes, whatever the depth. Both streams begin as `x`; the
    result is their mean.
    """

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The mean of both streams after the last block."""
        if torch.is_grad_enabled() and cache is None:
            first, second = _Recompute.apply(x, x, self, context)  # type: ignore[no-untyped-call]
        else:
            first, second = self.run(x, context, cache)
        return (first + second) / 2

    def run(
        self, x: Float[Tensor, "B S D"], context: AttentionContext, cache: KVCache | None = None
    ) -> tuple[Float[Tensor, "B S D"], Float[Tensor, "B S D"]]:
        """Both streams after the last block, by ordinary operations."""
        first = second = x
        for index, block in enumerate(self):
            layer_cache = None if cache is None else cache.layers[index]
            first = first + block.attention(second, context, layer_cache)
            second = second + block.feed_forward(first)
        return first, second


class _Recompute(torch.autograd.Function):
    """The recurrence without a graph; the graph of one branch at a time is made in backward.

    Gradients of weights are added to `.grad` there, so that `torch.autograd.grad` sees only the
    inputs'. Dropout and autocast are those of the forward pass again.
    """

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor, stack: ReversibleStack, context: AttentionContext
    ) -> tuple[Tensor, Tensor]:
        ctx.branches = [
            branch
            for block in stack
            for branch in (lambda x, block=block: block.attention(x, context), block.feed_forward)
        ]
        ctx.replay = _Replay(first.device, drops=stack.training and _has_dropout(stack))
        ctx.states = []
        with torch.no_grad():
            for branch in ctx.branches:
                ctx.states.append(ctx.replay.state())
                # The streams swap roles at every branch.
                first, second = second, first + branch(second)
        ctx.save_for_backward(first, second)
        return first, second

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        first, second = ctx.saved_tensors
        grad_first, grad_second = gradients
        with ctx.replay:
            for branch, state in zip(reversed(ctx.branches), reversed(ctx.states), strict=True):
                added, pulled = ctx.replay.pull(branch, state, first, grad_second)
                first, second = second - added, first
                grad_first, grad_second = grad_second, grad_first + pulled
        return grad_first, grad_second, None, None


RandomState = tuple[Tensor, ...]
"""Of the CPU, and of the device where that is another; empty where nothing is drawn."""


class _Replay:
    """Runs branches again as they ran: the same dropout masks, the same autocast."""

    def __init__(self, device: torch.device, *, drops: bool) -> None:
        self._device, self._drops = device, drops
        self._before: RandomState = ()
        self._dtype = torch.get_autocast_dtype(device.type)
        self._casts = torch.is_autocast_enabled(device.type)

    def state(self) -> RandomState:
        """The random state that the next branch meets."""
        if not self._drops:
            return ()
        cuda = self._device.type == "cuda"
        return torch.get_rng_state(), *((torch.cuda.get_rng_state(self._device),) if cuda else ())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._casts)

    def pull(
        self, branch: Any, state: RandomState, x: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the branch gave at `x` under that state, and the gradient it passes to `x`."""
        self._set(state)
        x = x.detach().requires_grad_()
        with torch.enable_grad(), self._autocast():
            added = branch(x)
        torch.autograd.backward(added, gradient.to(added.dtype))
        assert x.grad is not None
        return added.detach(), x.grad

    def __enter__(self) -> None:
        self._before = self.state()

    def __exit__(self, *_: object) -> None:
        self._set(self._before)

    def _set(self, state: RandomState) -> None:
        if state:
            torch.set_rng_state(state[0])
        if len(state) > 1:
            torch.cuda.set_rng_state(state[1], self._device)


def _has_dropout(stack: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in stack.modules())
