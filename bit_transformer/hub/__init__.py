"""Checkpoints on a Hugging Face hub, in both directions; the `hub` extra.

client        the only importer of huggingface_hub: tokens, bounded retries, errors
identity      what a repository is called: user/name, user/name@revision
contents      the files of a checkpoint or a run as they lie in a repository
card          the model card, filled with what was measured
transfer      push, pull, and the local copy that stands for a hub id
mirror        uploads checkpoints beside a run, and never breaks it
checkpoints   documented names of an earlier system

Importing this folder imports nothing of Hugging Face.
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
