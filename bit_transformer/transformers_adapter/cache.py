"""A Predictor with the interface of a transformers cache."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.errors import UnsupportedCombination
from bit_transformer.inference.predictor import Predictor
from bit_transformer.model.transformer import BitTransformer


class PatchCache:
    """State that `generate` keeps between steps, for sequences of any length.

    It holds the predictor that `BitTransformerLM.generate` uses, so both compute the same step.
    Prompts of different lengths in a batch get one predictor each, because each starts at its own
    position.
    """

    is_compileable = False

    def __init__(self, network: BitTransformer) -> None:
        self._network = network
        self._predictors: list[Predictor] = []
        self._length = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens read so far, padding included."""
        return self._length

    def begin(
        self, patches: Integer[Tensor, "B N"], lead: Integer[Tensor, " B"]
    ) -> Float[Tensor, "B N nodes"]:
        """Read the first tokens and return the node logits after each. The first `lead` tokens of a
        row are the special token for the start."""
        self._length = patches.shape[1]
        if bool((lead == lead[0]).all()):
            self._predictors = [Predictor(self._network, len(patches))]
            return _begin(self._predictors[0], patches, int(lead[0]))
        self._predictors = [Predictor(self._network) for _ in patches]
        rows = zip(self._predictors, patches.split(1), lead.tolist(), strict=True)
        return torch.cat([_begin(predictor, row, int(first)) for predictor, row, first in rows])

    def extend(self, patches: Integer[Tensor, "B N"]) -> Float[Tensor, "B N nodes"]:
        """Read further tokens and return the node logits after each."""
        self._length += patches.shape[1]
        parts = patches.split(1) if len(self._predictors) > 1 else (patches,)
        pairs = zip(self._predictors, parts, strict=True)
        return torch.cat([predictor.push(part) for predictor, part in pairs])

    @property
    def begun(self) -> bool:
        """Whether any token has been read."""
        return bool(self._predictors)

    def reorder_cache(self, beam_idx: Integer[Tensor, " B"]) -> None:
        """Continue with these rows of the batch; beam search calls this."""
        if len(self._predictors) > 1:
            raise UnsupportedCombination(
                "beam search and prompts of different lengths in one batch exclude each other, "
                "because each prompt has its own cache; search one prompt at a time"
            )
        self._predictors[0].select(beam_idx)

    def activate_past_recording(self) -> None:
        """Raise UnsupportedCombination, because assisted decoding would have to undo tokens."""
        raise UnsupportedCombination(
            "assisted decoding and this model exclude each other, because its cache cannot be "
            "rolled back; leave out assistant_model and prompt_lookup_num_tokens"
        )


def _begin(predictor: Predictor, patches: Tensor, lead: int) -> Tensor:
    start = predictor.node_logits[:, None].expand(-1, lead, -1)
    read: Callable[[Tensor], Tensor] = predictor.push
    return torch.cat((start, read(patches[:, lead:])), 1) if lead < patches.shape[1] else start
