"""States at rest: safetensors and JSON, written atomically, verified when read, never unpickled.

lock      one writer a folder
atomic    files that are either the old or the new one
state     any nesting of dicts, lists and tensors <-> tensors and JSON
format    one checkpoint folder: weights, training state, manifest
migrate   upgrades the manifests of older versions
rotation  the checkpoints of a run, the newest of them always valid
locate    from a run or checkpoint folder to the checkpoint that is meant
"""
