"""Converts nested dicts, lists and tensors to named tensors and JSON, and back. It replaces pickle,
which can run code when it is read."""

import math
from typing import Any

import torch
from torch import Tensor

from bit_transformer.errors import CheckpointCorruptError

_SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}
"""The dtypes that a safetensors file can hold."""


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a tree of dicts (keys str or int), lists, tuples, tensors and plain values.

    Returns the tensors by name, and a JSON skeleton in which each container is tagged by its kind.
    Subclasses are restored as their base class: OrderedDict as dict, Parameter as Tensor. Raises
    `TypeError`, which names the place of the value, for any other type.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _flatten(tree, "state", tensors)


def unflatten(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Restore the tree that `flatten` split. Raises `CheckpointCorruptError` for an invalid one."""
    try:
        return _unflatten(tensors, skeleton)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointCorruptError(
            f"the training state cannot be restored ({type(error).__name__}: {error}); "
            "use another checkpoint of the run"
        ) from error


def storable(tensor: Tensor, where: str) -> Tensor:
    """A copy on the CPU with a storage of its own, as safetensors requires.

    Raises `TypeError`, which names `where`, for sparse, meta and quantized tensors and complex128.
    """
    plain = tensor.layout is torch.strided and tensor.dtype in _DTYPES
    if not plain or tensor.device.type == "meta":
        raise TypeError(
            f"cannot save {where}: a safetensors file cannot hold a tensor of {tensor.dtype}, "
            f"{tensor.layout} on {tensor.device}; convert it first"
        )
    # The copy also resolves lazily conjugated and negated views, whose raw bytes would be wrong.
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _flatten(node: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = str(len(tensors))
        tensors[name] = storable(node, where)
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [_flatten_item(key, value, where, tensors) for key, value in node.items()]}
    if isinstance(node, list | tuple):
        kind = "list" if isinstance(node, list) else "tuple"
        return {kind: [_flatten(item, f"{where}[{i}]", tensors) for i, item in enumerate(node)]}
    return _flatten_value(node, where)


def _flatten_item(key: Any, value: Any, where: str, tensors: dict[str, Tensor]) -> list[Any]:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"cannot save {where}: its key {key!r} is neither a str nor an int")
    return [_flatten_value(key, where), _flatten(value, f"{where}[{key!r}]", tensors)]


def _flatten_value(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if isinstance(value, str):
        # str() of a string enumeration would give its name instead of its value.
        return str.__str__(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(
        f"cannot save {where}: it is a {type(value).__name__}; only dicts, lists, tuples, "
        "tensors, numbers, strings and None can be saved"
    )


def _unflatten(tensors: dict[str, Tensor], node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return _SPECIAL[content]
    if kind == "dict":
        return {key: _unflatten(tensors, value) for key, value in content}
    items = [_unflatten(tensors, item) for item in content]
    return {"list": list, "tuple": tuple}[kind](items)
