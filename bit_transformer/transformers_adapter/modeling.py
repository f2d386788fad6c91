"""A model of this project as a transformers model."""

import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.hub import cached_file

from bit_transformer.checkpoint.format import MANIFEST, MODEL
from bit_transformer.errors import (
    CheckpointNotFoundError,
    InvalidBitsError,
    UnsupportedCombination,
)
from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.network_spec import build_network, spec_of
from bit_transformer.transformers_adapter.cache import PatchCache
from bit_transformer.transformers_adapter.configuration import BitTransformerConfig
from bit_transformer.transformers_adapter.export import (
    CodeFromExport,
    export_for_transformers,
    network_spec,
)

_HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
)
_REFUSED = ("quantization_config", "load_in_8bit", "load_in_4bit", "state_dict", "gguf_file")


class BitTransformerForCausalLM(CodeFromExport, PreTrainedModel, GenerationMixin):
    """A network whose logits are log-probabilities of whole patches.

    `generate` therefore samples from the same distribution as `BitTransformerLM.generate`, and
    greedy decoding gives the same bits. It uses its own cache and may continue beyond the context,
    see `Predictor`. Beam search works; assisted decoding does not.
    """

    config_class = BitTransformerConfig
    base_model_prefix = "network"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: BitTransformerConfig, network: BitTransformer | None = None) -> None:
        super().__init__(config)
        if network is None:
            network = build_network(network_spec(config.settings))
        self.network = network
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Do nothing: a network initialises itself."""

    @classmethod
    def from_model(cls, model: BitTransformerLM) -> "BitTransformerForCausalLM":
        """Wrap the network of a model. The weights are shared."""
        return cls(BitTransformerConfig(spec_of(model.network).to_dict()), model.network)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *_: Any,
        config: BitTransformerConfig | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load the model of a checkpoint folder or a hub id, and verify it against its manifest.

        `device_map` is one device; `auto` is the first GPU if there is one. Weights are float32 or
        quantized; `dtype` may be float32 or `auto`. Raises `CheckpointError` for a damaged
        checkpoint, and `UnsupportedCombination` for arguments that this model does not support.
        """
        if refused := [name for name in _REFUSED if kwargs.get(name)]:
            raise UnsupportedCombination(
                f"{refused[0]} and this model exclude each other; for weights in 8 or 4 bits use: "
                "bit-transformer quantize"
            )
        _require_float32(dtype if dtype is not None else torch_dtype)
        folder = _checkpoint(str(pretrained_model_name_or_path), kwargs)
        lm = BitTransformerLM.from_pretrained(folder)
        if not isinstance(config, BitTransformerConfig):
            config = BitTransformerConfig(spec_of(lm.network).to_dict())
        model = cls(config, lm.network).to(_device(device_map))
        return (model.eval(), {}) if output_loading_info else model.eval()

    def save_pretrained(self, save_directory: str | os.PathLike[str], *_: Any, **__: Any) -> None:
        """Save a checkpoint folder that both libraries can load."""
        BitTransformerLM(network=self.network).save_pretrained(Path(save_directory))
        export_for_transformers(Path(save_directory))

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the bit tree."""
        return self.network.embedding

    def get_output_embeddings(self) -> None:
        """Return None: patch scores come from the nodes of a tree, not from an output matrix."""

    def forward(
        self,
        input_ids: Integer[Tensor, "B N"],
        attention_mask: Integer[Tensor, "B M"] | Bool[Tensor, "B M"] | None = None,
        past_key_values: PatchCache | None = None,
        labels: Integer[Tensor, "B N"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """Return logits: `logits[:, n]` are the log-probabilities of the patch after token n.

        The special token has log-probability -inf. Padding, as the special token or masked, may
        come before the tokens of a row, or after all of them. The loss is the mean surprisal in
        nats of the labels after the first; label -100 is ignored. Raises `InvalidBitsError` for a
        token that is neither a patch nor the special token.
        """
        patches, lead = self._patches(input_ids, attention_mask, past_key_values)
        if past_key_values is None and use_cache and not torch.is_grad_enabled():
            past_key_values = PatchCache(self.network)
        if past_key_values is None:
            nodes = self._read(patches, lead)
        elif past_key_values.begun:
            nodes = past_key_values.extend(patches)
        else:
            nodes = past_key_values.begin(patches, lead)
        logits = self._logits(nodes[:, -logits_to_keep:])
        loss = None if labels is None else _loss(logits, labels)
        output = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)
        return output.to_tuple() if return_dict is False else output

    def _patches(
        self, ids: Tensor, mask: Tensor | None, cache: PatchCache | None
    ) -> tuple[Tensor, Tensor]:
        """Return patch values, and the number of special or masked tokens before each row."""
        start = self.config.start_token
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) <= start:
            raise InvalidBitsError(
                f"tokens must be patch values from 0 to {start - 1}, or {start} for the start; got "
                f"{int(ids.min())} to {int(ids.max())}"
            )
        padding = ids == start
        if mask is not None and (cache is None or not cache.begun):
            padding = padding | (mask[:, -ids.shape[1] :] == 0)
        begun = (~padding).long().cumsum(1)
        lead = (begun == 0).sum(1)
        ended = begun == begun[:, -1:] if cache is None else torch.zeros_like(padding)
        if bool((padding & (begun > 0) & ~ended).any()):
            raise InvalidBitsError(
                f"token {start} stands for the start or for padding, but is in the middle of a "
                "sequence; remove it there"
            )
        return ids.masked_fill(padding, 0), lead

    def _read(self, patches: Tensor, lead: Tensor) -> Float[Tensor, "B N nodes"]:
        """Return node logits after each token in one pass; rows are shifted left to their start."""
        positions = torch.arange(patches.shape[1], device=patches.device)
        begins = (positions + lead[:, None]).clamp(max=patches.shape[1] - 1)
        nodes = self.network(patches.gather(1, begins))
        after = (positions + 1 - lead[:, None]).clamp(min=0)
        return nodes.gather(1, after[..., None].expand(-1, -1, nodes.shape[-1]))

    def _logits(self, nodes: Float[Tensor, "B N nodes"]) -> Float[Tensor, "B N vocabulary"]:
        scores = patch_log_probabilities(nodes.flatten(0, 1).float()).unflatten(0, nodes.shape[:2])
        return functional.pad(scores, (0, 1), value=-torch.inf)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *_: Any, **__: Any
    ) -> None:
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = PatchCache(self.network)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].to(logits.device).flatten(), ignore_index=-100
    )


def _checkpoint(name: str, arguments: dict[str, Any]) -> Path:
    """Return the folder of a checkpoint; transformers itself downloads a hub id."""
    wanted = {key: value for key in _HUB_ARGUMENTS if (value := arguments.get(key)) is not None}
    found = [cached_file(name, file, **wanted) for file in (MODEL, MANIFEST)]
    if None in found:
        raise CheckpointNotFoundError(
            f"{name} is not a checkpoint of BitTransformerLM: {MODEL} or {MANIFEST} is missing"
        )
    return Path(str(found[-1])).parent


def _device(device_map: Any) -> torch.device:
    if isinstance(device_map, dict):
        devices = set(device_map.values())
        if len(devices) != 1:
            raise UnsupportedCombination(
                f"device_map over {len(devices)} devices and this model exclude each other; name "
                "one device"
            )
        (device_map,) = devices
    if device_map in ("auto", "balanced", "sequential"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device("cpu" if device_map is None else device_map)


def _require_float32(dtype: str | torch.dtype | None) -> None:
    if dtype not in (None, "auto", "float32", torch.float32):
        raise UnsupportedCombination(
            f"dtype={dtype} and this model exclude each other, because its weights are float32; "
            "leave dtype out and use torch.autocast for products in 16 bits, or make the model "
            "smaller with: bit-transformer quantize"
        )
