"""The files that transformers reads in a checkpoint folder. This module does not import it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bit_transformer.atomic import atomic_write_text
from bit_transformer.checkpoint.format import read_manifest
from bit_transformer.checkpoint.migrate import config_from_1
from bit_transformer.errors import UnsupportedCombination
from bit_transformer.model.config import ModelConfig
from bit_transformer.network_spec import NetworkSpec

REMOTE_CODE = "modeling_bit_transformer"
"""Name of the module that is uploaded with a model."""
_AUTO_CLASSES = {
    "AutoConfig": "BitTransformerConfig",
    "AutoModelForCausalLM": "BitTransformerForCausalLM",
}
FILES = ("config.json", "generation_config.json", "tokenizer_config.json", f"{REMOTE_CODE}.py")


class CodeFromExport:
    """Keeps transformers from copying the file of a class into a saved folder.

    The module that `transformers_files` writes is the code that is saved with a model.
    """

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing."""


def require_whole_tokens(config: ModelConfig) -> None:
    """Raise `UnsupportedCombination` unless a byte is a whole number of patches."""
    if config.bits_per_byte % config.patch_size:
        raise UnsupportedCombination(
            f"patch_size={config.patch_size} and transformers exclude each other, because a byte "
            f"of {config.bits_per_byte} bits is not a whole number of tokens; use "
            "BitTransformerLM.generate, or train with patch_size 1, 2, 4 or 8"
        )


def network_spec(settings: Mapping[str, Any]) -> NetworkSpec:
    """Return the network of a checkpoint's config. Earlier exports have a config of version 1."""
    return NetworkSpec.from_dict(settings if "model" in settings else config_from_1(settings))


def transformers_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of `FILES` by name, for a checkpoint with this config.

    Raises the error of `require_whole_tokens`.
    """
    settings = network_spec(config).model
    require_whole_tokens(settings)
    start = 2**settings.patch_size
    special = {"bos_token_id": start, "pad_token_id": start, "eos_token_id": None}
    model = {
        "architectures": ["BitTransformerForCausalLM"],
        "auto_map": {auto: f"{REMOTE_CODE}.{name}" for auto, name in _AUTO_CLASSES.items()},
        "model_type": "bit_transformer",
        "settings": dict(config),
        "vocab_size": start + 1,
        **special,
    }
    tokenizer = {
        "auto_map": {"AutoTokenizer": [f"{REMOTE_CODE}.BitTransformerTokenizer", None]},
        "tokenizer_class": "BitTransformerTokenizer",
        "patch_size": settings.patch_size,
        "parity": settings.parity,
    }
    documents = {
        "config.json": model,
        "generation_config.json": special,
        "tokenizer_config.json": tokenizer,
    }
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in documents.items()}
    code = Path(__file__).with_name("remote_code.py").read_text(encoding="utf-8")
    return texts | {f"{REMOTE_CODE}.py": code}


def export_for_transformers(checkpoint: Path) -> None:
    """Add `FILES` to a checkpoint folder, so that `from_pretrained` of transformers can load it.

    Raises the error of `require_whole_tokens`, and those of reading a checkpoint and writing files.
    """
    for name, text in transformers_files(read_manifest(checkpoint)["config"]).items():
        atomic_write_text(checkpoint / name, text)
