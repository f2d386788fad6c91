"""Forward hooks that observe a network while it runs and do not change its output."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bit_transformer.model.attention import MaskRule
from bit_transformer.model.halting import halt_probs
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.telemetry.metrics import attention_entropy, attention_map

_ALL_EXITS = 4
"""Dimensions of the head's input when all exits are asked for: (E, B, S, D)."""


class Probe:
    """A context manager that observes the first forward pass of a network inside it.

    It keeps references to tensors that the pass computes anyway. Metrics are computed on request,
    also after the context has ended. Later passes are ignored until `clear` is called, because a
    backward pass that recomputes activations runs the hooks again.
    """

    def __init__(self, network: BitTransformer, *, rows: int | None = None) -> None:
        """Observe the first `rows` sequences of the batch, or all for None."""
        self._network, self._rows = network, rows
        self._inputs: list[tuple[Tensor, Any] | None] = [None] * network.config.num_layers
        self._output: Tensor | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._eager: Any = None

    def __enter__(self) -> "Probe":
        for index, block in enumerate(self._network.stack):
            self._handles.append(block.attention.register_forward_pre_hook(self._reader(index)))
        self._handles.append(self._network.head.register_forward_pre_hook(self._read_output))
        if any(_is_compiled(module) for module in self._network.stack.modules()):
            # A hook inside a compiled branch would cause a recompilation for every probe.
            self._eager = torch.compiler.set_stance("force_eager")
            self._eager.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._eager is not None:
            self._eager.__exit__(*error)
            self._eager = None

    def clear(self) -> None:
        """Discard the observed pass, so that the next pass is observed."""
        self._inputs = [None] * len(self._inputs)
        self._output = None

    def _reader(self, index: int) -> Any:
        def read(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            if self._inputs[index] is None:
                self._inputs[index] = (arguments[0].detach()[: self._rows], arguments[1])

        return read

    def _read_output(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        if self._output is None:
            stream = arguments[0].detach()
            # With all exits, the last one is the end of the trunk.
            self._output = (stream[-1] if stream.ndim == _ALL_EXITS else stream)[: self._rows]

    @property
    def observed(self) -> bool:
        """Whether a forward pass has been observed."""
        return self._output is not None

    @property
    def activations(self) -> Float[Tensor, "layers B S D"]:
        """The residual stream before each block and after the last block."""
        observed = [pair[0] for pair in self._inputs if pair is not None]
        assert self._output is not None, "no forward pass was observed"
        return torch.stack([*observed, self._output])

    @torch.no_grad()
    def attention_entropy(self) -> Float[Tensor, "B L H"]:
        """Return the mean attention entropy of each head in bits, without building S x S maps."""
        found = [attention_entropy(*heads) for heads in map(self._heads, self._layers())]
        return torch.stack(found, dim=1)

    @torch.no_grad()
    def attention_maps(self) -> Float[Tensor, "B L H S S"]:
        """Return the attention weights of every head; memory is quadratic in S."""
        found = [attention_map(*heads) for heads in map(self._heads, self._layers())]
        return torch.stack(found, dim=1)

    def halting_probabilities(self) -> Float[Tensor, "B S L"]:
        """Return the probability that a position exits after each block. Each row sums to 1."""
        return halt_probs(self._network.stack, self.activations[1:])

    def _layers(self) -> range:
        return range(len(self._inputs))

    def _heads(self, index: int) -> tuple[Tensor, Tensor, MaskRule]:
        """Return the queries and keys of a layer, and its mask rule."""
        observed = self._inputs[index]
        assert observed is not None, "no forward pass was observed"
        x, context = observed
        attention = list(self._network.stack)[index].attention
        queries, keys, _ = attention.project(x, context)
        return queries.float(), keys.float(), context.rule


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None
