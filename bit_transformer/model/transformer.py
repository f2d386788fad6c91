"""The network: bit-tree embedding and context memory in, trunk, bit-tree head out.

`BitTransformer.forward` is the one entry. Training, evaluation, decoding and telemetry all call it,
so hooks, sharding and pipelines attach to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.errors import ConfigError, ContextLengthError, UnsupportedCombination
from bit_transformer.model.attention import (
    AttentionContext,
    AttentionKernel,
    MaskRule,
    attention_kernel,
)
from bit_transformer.model.bit_tree import (
    BitTreeEmbedding,
    BitTreeHead,
    patch_values,
    path_logits,
)
from bit_transformer.model.cache import KVCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.halting import HaltingStack
from bit_transformer.model.memory import ContextMemory
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotary
from bit_transformer.model.stack import Layers, PlainStack, ReversibleStack, Stack

Embed = Callable[[Tensor], Tensor]
"""From patches (B, N) to their embeddings (B, N, D), in place of `network.embedding`."""


STACKS: list[tuple[Callable[[ModelConfig], bool], type[Stack]]] = [
    (lambda config: config.use_act, HaltingStack),
    (lambda config: config.reversible, ReversibleStack),
    (lambda config: True, PlainStack),
]
"""Kinds of trunk with the condition for each. The first that suits a configuration is built."""


class ExitLogits(NamedTuple):
    """The prediction at each of E places where a position may exit. Without adaptive computation
    there is one, after the last block."""

    logits: Float[Tensor, "E B S nodes"]
    halt_probs: Float[Tensor, "B S E"]
    """Probability that a position exits at each place."""


class BitTransformer(nn.Module):
    """Predicts each next patch of a sequence from all patches before it."""

    def __init__(self, config: ModelConfig, layers: Layers = None) -> None:
        """`layers` has the widths of each block of a pruned network."""
        super().__init__()
        self.config = config
        self.attention_kernel: AttentionKernel = attention_kernel(config)
        self.embedding = BitTreeEmbedding(config.patch_size, config.d_model)
        self.memory = ContextMemory(config) if config.memory_orders else None
        self.rotary = Rotary(config.head_width, config.context_patches + 1, config.rotary_base)
        self.stack = _build_stack(config, layers)
        self.head = BitTreeHead(
            config.patch_size,
            config.d_model,
            parity=config.parity,
            logit_cap=config.logit_cap,
            leaf_logits=config.leaf_logits,
        )

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.embedding.nodes.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights that stay unquantized."""
        return self.embedding.nodes.dtype

    def branches(self) -> Iterator[nn.Module]:
        """The units that are compiled and sharded: every residual branch, in running order."""
        return self.stack.branches()

    def forward(
        self,
        patches: Integer[Tensor, "B N"],
        cache: KVCache | None = None,
        *,
        causal: bool = True,
        all_exits: bool = False,
        embed: Embed | None = None,
    ) -> Tensor | ExitLogits:
        """Node logits (B, S, nodes) of the patch after each position.

        Without a cache, or with an empty one, the start position comes first and S is N + 1. Later
        calls continue the cached sequence and S is N. Without `causal`, every position attends to
        all others across chunks. `all_exits` returns `ExitLogits`. `embed` replaces the embedding
        of patches; it runs inside this call, where sharded weights are whole. The context memory
        reads `patches`, in which -1 stands for an unknown one.

        Raises `ContextLengthError` for more patches than the context holds, and
        `UnsupportedCombination` for a cache with `causal=False` or with `all_exits`.
        """
        if cache is not None and not causal:
            raise UnsupportedCombination(
                "a cache stores positions that have not attended to later ones; read the whole "
                "sequence in one pass without a cache, or use causal=True"
            )
        if cache is not None and all_exits:
            raise UnsupportedCombination(
                "all_exits reads whole sequences; call the network without a cache"
            )
        begin, at_start = (0, True) if cache is None else (cache.length, not cache.begun)
        self._check_length(patches.shape[1] + at_start, cache)
        x = self.read_patches(patches, cache, at_start=at_start, embed=embed)
        rule = self._rule(causal=causal) if cache is None else MaskRule()
        context = AttentionContext(self.rotary(begin, x.shape[1]), self.attention_kernel, rule)
        if all_exits:
            return self._exit_logits(x, context)
        logits: Tensor = self.head(self.stack(x, context, cache))
        return logits

    def _exit_logits(self, x: Float[Tensor, "B S D"], context: AttentionContext) -> ExitLogits:
        if isinstance(self.stack, HaltingStack):
            states, halt_probs = self.stack(x, context, all_exits=True)
        else:
            states, halt_probs = self.stack(x, context)[None], x.new_ones(*x.shape[:2], 1)
        return ExitLogits(self.head(states), halt_probs)

    def _rule(self, *, causal: bool) -> MaskRule:
        if self.config.chunk_size is None:
            return MaskRule(causal)
        return MaskRule(causal, self.config.chunk_patches, self.config.overlap_patches)

    def new_cache(self, batch_size: int) -> KVCache:
        """An empty cache for `batch_size` sequences, with the device and dtype of the network."""
        heads = [block.widths.nhead for block in self.stack]
        cache = KVCache(self.config, batch_size, heads, device=self.device, dtype=self.dtype)
        cache.leaf_table = self.embedding.leaf_table()
        return cache

    def read_patches(
        self,
        patches: Integer[Tensor, "B N"],
        cache: KVCache | None,
        *,
        at_start: bool,
        embed: Embed | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The normalised input of the trunk. A cache also stores the patches."""
        if embed is not None:
            x = embed(patches)
        else:
            x = self.embedding(patches, None if cache is None else cache.leaf_table)
        if at_start:
            x = torch.cat((self.embedding.start(len(patches)), x), dim=1)
        if self.memory is not None:
            x = x + self.memory(self._recent(patches, cache), x.shape[1])
        if cache is not None:
            cache.remember(patches)
        return rms_norm(x)

    def _recent(self, patches: Tensor, cache: KVCache | None) -> Tensor:
        """The patches, preceded by as many as the memory looks back; -1 before the start."""
        if cache is not None:
            return torch.cat((cache.recent, patches), dim=1)
        assert self.memory is not None
        return functional.pad(patches, (self.memory.longest, 0), value=-1)

    def _check_length(self, positions: int, cache: KVCache | None) -> None:
        room = self.config.context_patches + 1 if cache is None else cache.room
        if positions <= room:
            return
        if cache is not None and self.config.chunk_size is not None:
            raise ContextLengthError(
                f"the chunk has room for {room} more patches, got {positions}; read them in "
                "pieces and call the cache's slide() in between, as Predictor does"
            )
        before = 0 if cache is None else cache.length
        raise ContextLengthError(
            f"the context holds {self.config.max_seq_len} bits ({self.config.context_patches} "
            f"patches), got {before + positions - 1} patches; shorten the input or build the model "
            "with a larger max_seq_len"
        )


def _build_stack(config: ModelConfig, layers: Layers) -> Stack:
    kind = next(kind for suits, kind in STACKS if suits(config))
    return kind(config, layers)


def bit_logits(
    network: BitTransformer, bits: Integer[Tensor, "B T"], *, causal: bool = True
) -> Float[Tensor, "B T"]:
    """Logit of a one for each bit, given the bits before it. The start position predicts the first.

    T may end inside a patch. The last patch is predicted and never read. Without `causal`, each
    logit is given all patches but the last.
    """
    patches = _padded_patches(bits, network.config.patch_size)
    nodes = cast("Tensor", network(patches[:, :-1], causal=causal))
    logits = path_logits(nodes, patches, network.config.patch_size)
    return logits.flatten(1)[:, : bits.shape[1]]


def exit_bit_logits(
    network: BitTransformer, bits: Integer[Tensor, "B T"]
) -> tuple[Float[Tensor, "E B T"], Float[Tensor, "E B T"]]:
    """`bit_logits` at each exit, and the probability that the patch of each bit exits there."""
    patch_size, length = network.config.patch_size, bits.shape[1]
    patches = _padded_patches(bits, patch_size)
    nodes, halt_probs = network(patches[:, :-1], all_exits=True)
    logits = path_logits(nodes, patches.expand(len(nodes), -1, -1), patch_size).flatten(2)
    halt_probs = halt_probs.permute(2, 0, 1).repeat_interleave(patch_size, dim=2)
    return logits[:, :, :length], halt_probs[:, :, :length]


def _padded_patches(bits: Integer[Tensor, "B T"], patch_size: int) -> Integer[Tensor, "B N"]:
    return patch_values(functional.pad(bits, (0, -bits.shape[1] % patch_size)), patch_size)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context in which a module is in evaluation mode. Its mode is restored afterwards."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give all dropout layers of `model` this rate in [0, 1). It acts in training mode only."""
    if not 0 <= rate < 1:
        raise ConfigError(f"a dropout rate must be in [0, 1), got {rate}")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
