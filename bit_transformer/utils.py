"""Documented names of the earlier system, kept as thin imports."""

from pathlib import Path

from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.transformer import set_dropout

__all__ = ["load_model", "save_model", "set_dropout"]


def save_model(model: BitTransformerLM, path: str | Path) -> Path:
    """Call `model.save_pretrained(path)`."""
    return model.save_pretrained(path)


def load_model(path: str | Path) -> BitTransformerLM:
    """Call `BitTransformerLM.from_pretrained(path)`."""
    return BitTransformerLM.from_pretrained(path)
