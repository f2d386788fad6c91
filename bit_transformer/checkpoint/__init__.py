"""Checkpoints: safetensors and JSON, written atomically and verified when read. There is no pickle.

format    one checkpoint folder: weights, training state, manifest
rotation  the checkpoints of a run, of which the newest is always valid
locate    finds the checkpoint that a user's path or hub id means
migrate   upgrades the manifests of older versions
state     nested dicts, lists and tensors as tensors and JSON, and back
lock      lets only one process write in a folder
"""
