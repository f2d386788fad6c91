"""Documented names of the earlier system, kept as thin imports."""

from bit_transformer.hub.checkpoints import download_checkpoint, hf_login, save_checkpoint

__all__ = ["download_checkpoint", "hf_login", "save_checkpoint"]
