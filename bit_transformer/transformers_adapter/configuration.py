"""The settings that transformers needs before it builds a model."""

from typing import Any

from transformers import PreTrainedConfig

from bit_transformer.model.config import ModelConfig
from bit_transformer.network_spec import NetworkSpec
from bit_transformer.transformers_adapter.export import (
    CodeFromExport,
    network_spec,
    require_whole_tokens,
)


class BitTransformerConfig(CodeFromExport, PreTrainedConfig):
    """Settings of a network under the names that transformers uses."""

    model_type = "bit_transformer"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(self, settings: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """`settings` is the config of a checkpoint, see `NetworkSpec.to_dict`.

        Raises `ConfigError` for invalid settings, and `UnsupportedCombination` unless a byte is a
        whole number of patches.
        """
        network = network_spec(settings or {}).model
        require_whole_tokens(network)
        start = 2**network.patch_size
        self.settings = dict(settings or NetworkSpec(network).to_dict())
        self.hidden_size, self.num_hidden_layers = network.d_model, network.num_layers
        self.num_attention_heads = network.nhead
        self.vocab_size = start + 1
        special = {"bos_token_id": start, "pad_token_id": start, "tie_word_embeddings": False}
        super().__init__(**(special | kwargs))

    @property
    def network(self) -> ModelConfig:
        """Config of the network."""
        return network_spec(self.settings).model

    @property
    def start_token(self) -> int:
        """The special token, which stands before the first patch and for padding."""
        return int(self.vocab_size) - 1
