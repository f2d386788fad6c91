"""Reads bits and predicts the next ones. Generation, scoring and metrics all use this predictor."""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.errors import InvalidPredictionError
from bit_transformer.inference.native_step import NativeStep
from bit_transformer.model.bit_tree import patch_values, path_logits
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer

_PATCHES_AT_ONCE = 1024
"""Patches per forward pass. It bounds the memory of node logits, 2**P numbers per patch."""


def log2_likelihood(
    logits: Float[Tensor, "B T"], bits: Integer[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Return log2 of each bit's probability, given its log-odds of being a one. 16-bit logits are
    converted to float32."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype), reduction="none"
    )
    return nats / -math.log(2)


@runtime_checkable
class PatchPredictor(Protocol):
    """Reads a batch of sequences, any number of bits at a time, and predicts their next patch."""

    config: ModelConfig
    """Patch size and parity are those of the bits."""
    device: torch.device
    """Device of the predictions."""

    @property
    def prefix(self) -> Integer[Tensor, "B r"]:
        """The bits read so far of the current patch, r < P."""

    @property
    def node_logits(self) -> Float[Tensor, "B nodes"]:
        """Log-odds of a one at each inner node of the current patch. Entry 0 is unused."""

    def read(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Read bits and return log2 of the probability of each, given all bits before it."""

    def push(self, patches: Integer[Tensor, "B N"]) -> object:
        """Read whole patch values, at least one per sequence. The current patch must be empty."""


@runtime_checkable
class PredictorSource(Protocol):
    """Something other than a network that predicts sequences."""

    config: ModelConfig

    def predictor(self, batch_size: int = 1) -> PatchPredictor:
        """Return a predictor of new sequences."""


Source = BitTransformer | PredictorSource
"""A network, or a network with something added to its predictions."""


def begin(source: Source, batch_size: int = 1) -> PatchPredictor:
    """Return a predictor of new sequences."""
    if isinstance(source, BitTransformer):
        return Predictor(source, batch_size)
    return source.predictor(batch_size)


def require_predictions(predictions: np.ndarray) -> None:
    """Raise `InvalidPredictionError` if a prediction is NaN."""
    if np.isnan(predictions).any():
        raise InvalidPredictionError(
            "a prediction is NaN; the model's weights are damaged: load a good checkpoint"
        )


class Predictor:
    """Reads a batch of sequences with a network, any number of bits at a time.

    Reading a patch costs one trunk position. Sequences of any length take constant memory: with
    chunked attention the next chunk begins, otherwise a full context restarts from its newest half.
    The division of the bits into calls of `read` changes results only by rounding.
    """

    def __init__(self, network: BitTransformer, batch_size: int = 1) -> None:
        self.network, self.config = network, network.config
        self.patch_size = network.config.patch_size
        self.device = network.device
        self.prefix: Integer[Tensor, "B r"] = torch.zeros(
            batch_size, 0, dtype=torch.uint8, device=self.device
        )
        """The bits read so far of the current patch, r < P."""
        self._slides = network.config.chunk_size is not None
        self._read_patches: list[Tensor] = []
        native = batch_size == 1 and NativeStep.supports(network)
        self._native_step = NativeStep(network) if native else None
        nothing = torch.zeros(batch_size, 0, dtype=torch.int64, device=self.device)
        self.node_logits: Float[Tensor, "B nodes"] = self._begin(nothing)
        """Log-odds of a one at each inner node of the current patch. Entry 0 is unused."""

    @torch.inference_mode()
    def _begin(self, patches: Tensor) -> Tensor:
        self._cache = self.network.new_cache(len(patches))
        self._read_patches = [patches]
        logits: Tensor = self.network(patches, self._cache)
        return logits[:, -1]

    @torch.inference_mode()
    def push(self, patches: Integer[Tensor, "B N"]) -> Float[Tensor, "B N nodes"]:
        """Read whole patch values, at least one per sequence. Return the node logits after each.
        The current patch must be empty."""
        assert self.prefix.shape[1] == 0, "push() reads whole patches; finish this one with read()"
        # The same stretches as in `read`, so that both round in the same way.
        stretches = torch.split(patches, _PATCHES_AT_ONCE, dim=1)
        after = torch.cat([self._advance(stretch) for stretch in stretches], dim=1)
        self.node_logits = after[:, -1]
        return after

    @torch.inference_mode()
    def select(self, rows: Integer[Tensor, " B"]) -> None:
        """Replace the sequences by a selection of them, as beam search does. Rows may repeat, and
        the batch size stays the same."""
        self._cache.select(rows)
        self._read_patches = [patches[rows] for patches in self._read_patches]
        self.node_logits, self.prefix = self.node_logits[rows], self.prefix[rows]

    @torch.inference_mode()
    def read(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Read bits and return log2 of the probability of each, given all bits before it."""
        return log2_likelihood(self.read_logits(bits), bits)

    @torch.inference_mode()
    def read_logits(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Read bits and return the log-odds of a one that each had, given all bits before it."""
        stretches = torch.split(bits, _PATCHES_AT_ONCE * self.patch_size, dim=1)
        pieces = [self._read(stretch) for stretch in stretches]
        return torch.cat(pieces, dim=1)

    def _read(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        joined = torch.cat((self.prefix, bits.to(self.prefix.dtype)), dim=1)
        known, length = self.prefix.shape[1], joined.shape[1]
        padded = functional.pad(joined, (0, -length % self.patch_size))
        patches = patch_values(padded, self.patch_size)
        whole = length // self.patch_size
        after = self._advance(patches[:, :whole])
        nodes = torch.cat((self.node_logits[:, None], after), dim=1)
        logits = path_logits(nodes[:, : patches.shape[1]], patches, self.patch_size)
        self.node_logits, self.prefix = nodes[:, -1], joined[:, whole * self.patch_size :]
        return logits.flatten(1)[:, known:length]

    def _advance(self, patches: Tensor) -> Tensor:
        """Run the trunk over whole patches and return the node logits after each, (B, N, nodes)."""
        parts = []
        while patches.shape[1]:
            if self._cache.room == 0:
                self._make_room()
                continue
            taken, patches = patches.tensor_split([self._cache.room], dim=1)
            parts.append(self._run(taken))
            if not self._slides:
                self._read_patches.append(taken)
        batch, nodes = self.node_logits.shape
        return torch.cat(parts, dim=1) if parts else self.node_logits.new_zeros(batch, 0, nodes)

    def _run(self, patches: Tensor) -> Tensor:
        if self._native_step is not None and patches.shape[1] == 1:
            return self._native_step(patches, self._cache)
        logits: Tensor = self.network(patches, self._cache)
        return logits

    def _make_room(self) -> None:
        """Begin the next chunk, or restart from the newest half of the context."""
        if self._slides:
            self._cache.slide(self.network.rotary)
            return
        read = torch.cat(self._read_patches, dim=1)
        kept = self.network.config.context_patches // 2
        self._begin(read[:, read.shape[1] - kept :])
