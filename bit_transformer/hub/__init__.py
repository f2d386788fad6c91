"""Checkpoints on a Hugging Face hub, up and down; the `hub` extra.

client        the only importer of huggingface_hub: tokens, bounded retries, errors
identity      names of repositories: user/name, user/name@revision
contents      the files of a checkpoint or a run in a repository
card          the model card, filled with the figures that were measured
transfer      push, pull, and the local copy that stands for a hub id
mirror        uploads checkpoints while a run trains, and never interrupts it
checkpoints   documented names of the earlier system

Importing this folder does not import huggingface_hub.
"""

from bit_transformer.hub.checkpoints import download_checkpoint, hf_login, save_checkpoint
from bit_transformer.hub.client import Progress
from bit_transformer.hub.mirror import HubMirror
from bit_transformer.hub.transfer import Pushed, pull, push, who_am_i

__all__ = [
    "HubMirror",
    "Progress",
    "Pushed",
    "download_checkpoint",
    "hf_login",
    "pull",
    "push",
    "save_checkpoint",
    "who_am_i",
]
