"""Any nesting of dicts, lists and tensors <-> named tensors and JSON; the place of pickle."""

import math
from typing import Any

from torch import Tensor

from bit_transformer.errors import CheckpointCorruptError

_SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Take a tree of dicts (keys str or int), lists, tuples, tensors and plain values apart.

    Returns the tensors by name and a JSON skeleton in which each node is tagged by its kind.
    Raises `TypeError` naming the place of a value of any other type.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _flatten(tree, "", tensors)


def _flatten(node: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = str(len(tensors))
        # A clone, because safetensors refuses tensors that share storage.
        tensors[name] = node.detach().clone().contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [_flatten_item(key, value, where, tensors) for key, value in node.items()]}
    if isinstance(node, list | tuple):
        items = [_flatten(item, f"{where}[{i}]", tensors) for i, item in enumerate(node)]
        return {type(node).__name__: items}
    if isinstance(node, float) and not math.isfinite(node):
        return {"float": str(node)}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"cannot save {where or 'the state'}: it is a {type(node).__name__}")


def _flatten_item(key: Any, value: Any, where: str, tensors: dict[str, Tensor]) -> list[Any]:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"cannot save {where or 'the state'}: its key {key!r} is no str or int")
    return [key, _flatten(value, f"{where}.{key}", tensors)]


def unflatten(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Put together what `flatten` took apart; `CheckpointCorruptError` for any other skeleton."""
    if not isinstance(skeleton, dict):
        return skeleton
    if len(skeleton) != 1:
        raise CheckpointCorruptError(f"a node of the training state has keys {sorted(skeleton)}")
    ((kind, content),) = skeleton.items()
    if kind == "tensor" and content in tensors:
        return tensors[content]
    if kind == "float" and content in _SPECIAL:
        return _SPECIAL[content]
    if kind == "dict":
        return {key: unflatten(tensors, value) for key, value in content}
    if kind in ("list", "tuple"):
        items = [unflatten(tensors, item) for item in content]
        return items if kind == "list" else tuple(items)
    raise CheckpointCorruptError(f"a node of the training state is {kind!r}: {content!r}")
