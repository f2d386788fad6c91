"""Stacks run the blocks of the trunk in order: plainly, or reversibly without stored activations.

The attention and feed-forward branches are the units that are compiled and sharded (`branches`).
A reversible stack calls them one by one and never calls the block around them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache, LayerCache
from bit_transformer.model.config import LayerWidths, ModelConfig

BlockRunner = Callable[
    [Block, Tensor, AttentionContext, LayerCache | None, Bool[Tensor, "B S"] | None], Tensor
]
"""Runs one block; the arguments after the block are those of `Block.forward`."""
Layers = Sequence[LayerWidths] | None
"""Widths of each block, where they differ from those of the configuration."""


class Stack(nn.Module):
    """The blocks of the trunk, in the order in which they run."""

    def __init__(self, config: ModelConfig, layers: Layers = None) -> None:
        super().__init__()
        widths = layers or (None,) * config.num_layers
        self.blocks = nn.ModuleList(Block(config, one) for one in widths)

    def __iter__(self) -> Iterator[Block]:
        return iter(cast("Iterable[Block]", self.blocks))

    def branches(self) -> Iterator[nn.Module]:
        """Every residual branch in the order in which it runs."""
        for block in self:
            yield block.attention
            yield block.feed_forward


class SequentialStack(Stack):
    """Runs whole blocks through `run_block`, which activation checkpointing replaces."""

    def __init__(self, config: ModelConfig, layers: Layers = None) -> None:
        super().__init__(config, layers)
        self.run_block: BlockRunner = Block.__call__


class PlainStack(SequentialStack):
    """Pre-norm residual blocks, one after the other."""

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The residual stream after the last block."""
        for index, block in enumerate(self):
            layer = None if cache is None else cache.layers[index]
            x = self.run_block(block, x, context, layer, None)
        return x


class ReversibleStack(Stack):
    """Two residual streams, each updated from the other alone (Gomez et al. 2017,
    arXiv:1707.04585): `a += attention(b); b += feed_forward(a)`.

    The inputs of a block can be computed from its outputs. The backward pass does so, and no
    activation is stored between the passes, however deep the network is. Both streams begin as
    `x`; the result is their mean.
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
        """Both streams after the last block, computed by ordinary operations."""
        first = second = x
        for index, block in enumerate(self):
            layer_cache = None if cache is None else cache.layers[index]
            first = first + block.attention(second, context, layer_cache)
            second = second + block.feed_forward(first)
        return first, second


class _Recompute(torch.autograd.Function):
    """The recurrence without a graph. The backward pass builds the graph of one branch at a time.

    It adds the gradients of weights to `.grad` itself, so `torch.autograd.grad` sees only those of
    the inputs. Dropout masks and autocast are the same as in the forward pass.
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
"""RNG states of the CPU and, on a GPU, of the device. Empty without dropout."""


class _Replay:
    """Runs branches again with the dropout masks and the autocast of their first run."""

    def __init__(self, device: torch.device, *, drops: bool) -> None:
        self._device, self._drops = device, drops
        self._before: RandomState = ()
        self._dtype = torch.get_autocast_dtype(device.type)
        self._casts = torch.is_autocast_enabled(device.type)

    def state(self) -> RandomState:
        """The RNG state that the next branch starts from."""
        if not self._drops:
            return ()
        cuda = self._device.type == "cuda"
        return torch.get_rng_state(), *((torch.cuda.get_rng_state(self._device),) if cuda else ())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._casts)

    def pull(
        self, branch: Any, state: RandomState, x: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The output of the branch at `x` under that RNG state, and its gradient for `x`."""
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
