"""Quantization to 8 and 4 bits. It replaces modules of a built network.

int8      after training: matrices and memory tables with a scale per row. Inputs of matrices are
          quantized dynamically.
int4-qat  during training (quantization-aware training): torchao rounds the trunk's matrices in
          every forward pass. Gradients pass straight through (Bengio et al. 2013, arXiv:1308.3432).
int4      after such training: the same rounded matrices, two weights in each byte

Embedding and head are not quantized: they are small, and every bit depends on them.
"""

import copy
import functools
import importlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Float, Int8, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.errors import CheckpointMismatchError, ConfigError, UnsupportedCombination
from bit_transformer.extras import extra_imports
from bit_transformer.model.transformer import BitTransformer

Scheme = Literal["int8", "int4-qat", "int4"]
_Model = TypeVar("_Model", bound=nn.Module)
_GROUP = 32
"""Weights of a row that share a scale in 4 bits."""
_INT8_MAX = 127


def scale_rows(
    x: Float[Tensor, "*rows D"],
) -> tuple[Int8[Tensor, "*rows D"], Float[Tensor, "*rows 1"]]:
    """Each row as integers in [-127, 127] times a scale. The error of an entry is at most half of
    the scale. A row of zeros has the scale 1."""
    scale = x.abs().amax(-1, keepdim=True) / _INT8_MAX
    scale = torch.where(scale > 0, scale, 1.0)
    return (x / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer without bias in 8 bits. Each input row is quantized to 8 bits dynamically.

    With weight w, input x and their scales s_w and s_x, the error of each product is at most
    (s_w |x| + s_x |w|) / 2 + s_w s_x / 4.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Float[Tensor, "out D"]) -> None:
        super().__init__()
        rounded, scale = scale_rows(weight.detach())
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale.squeeze(-1))

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows out"]:
        """`x` times the transposed weight; raises `UnsupportedCombination` in training."""
        _refuse_training(self)
        rounded, scale = scale_rows(x)
        flat = rounded.reshape(-1, x.shape[-1])
        products = _int8_products(flat, self.weight).view(*x.shape[:-1], len(self.weight))
        return products.to(x.dtype) * (scale * self.scale.to(x.dtype))


def _int8_products(rows: Tensor, weight: Tensor) -> Tensor:
    """Exact integer products. GPUs compute them in floats, because their integer kernel needs
    larger shapes. So do inputs of width 1, where the kernel of torch 2.13 reads wrong strides."""
    if rows.device.type == "cpu" and len(rows) and rows.shape[1] > 1:
        return torch._int_mm(rows, weight.t())
    # Sums of products of 8-bit integers are exact in float32 up to a width of 1040, and in float64.
    dtype = torch.float32 if rows.shape[1] * _INT8_MAX**2 < 2**24 else torch.float64
    return rows.to(dtype) @ weight.t().to(dtype)


class Int8Embedding(nn.Module):
    """An embedding table in 8 bits. Each row has a float16 scale."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Float[Tensor, "rows D"]) -> None:
        super().__init__()
        _, scale = scale_rows(weight.detach())
        scale = scale.to(torch.float16).clamp(min=torch.finfo(torch.float16).tiny)
        rounded = (weight.detach() / scale.to(weight.dtype)).round().clamp(-_INT8_MAX, _INT8_MAX)
        self.register_buffer("weight", rounded.to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, indices: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        """The rows at these indices, in float32."""
        _refuse_training(self)
        rows, scale = (functional.embedding(indices, part) for part in (self.weight, self.scale))
        return rows.float() * scale.float()


class Int4Linear(nn.Module):
    """A linear layer without bias whose weights are stored in 4 bits, with a scale for each group.

    This saves storage and not computation: the weights are unpacked to floats at their first use.
    """

    packed: Tensor
    scale: Tensor

    def __init__(
        self, weight: Integer[Tensor, "out D"], scale: Float[Tensor, "out groups"]
    ) -> None:
        """`weight` has integers in [-8, 7]. Raises `ConfigError` for an odd width."""
        super().__init__()
        if weight.shape[1] % 2:
            raise ConfigError(
                f"4-bit weights are stored in pairs, so the width must be even, got "
                f"{weight.shape[1]}; use an even width"
            )
        self.register_buffer("packed", pack_nibbles(weight))
        self.register_buffer("scale", scale.detach().clone())
        self._unpacked: Tensor | None = None

    @property
    def weight(self) -> Float[Tensor, "out D"]:
        """The dequantized weights."""
        if self._unpacked is None or self._unpacked.device != self.packed.device:
            integers = unpack_nibbles(self.packed).to(self.scale.dtype)
            groups = integers.view(*self.scale.shape, -1) * self.scale[..., None]
            self._unpacked = groups.view(integers.shape)
        return self._unpacked

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows out"]:
        """`x` times the transposed weight; raises `UnsupportedCombination` in training."""
        _refuse_training(self)
        return functional.linear(x, self.weight.to(x.dtype))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._unpacked = None
        super()._load_from_state_dict(*arguments)


def pack_nibbles(weight: Integer[Tensor, "out D"]) -> UInt8[Tensor, "out half"]:
    """Pack integers in [-8, 7], each plus 8, into bytes. The first of a pair is the upper half."""
    pairs = (weight + 8).to(torch.uint8).view(len(weight), -1, 2)
    return pairs[..., 0] << 4 | pairs[..., 1]


def unpack_nibbles(packed: UInt8[Tensor, "out half"]) -> Int8[Tensor, "out D"]:
    """The inverse of `pack_nibbles`."""
    pairs = torch.stack((packed >> 4, packed & 15), dim=-1).flatten(1)
    return pairs.to(torch.int8) - 8


def quantize_dynamic(model: _Model) -> _Model:
    """A copy of the model in 8 bits, for inference.

    Raises `UnsupportedCombination` if the model is already quantized.
    """
    _require_float(model, "quantize_dynamic")
    copied = copy.deepcopy(model).eval()
    _restructure(_network(copied), "int8")
    return copied


def prepare_qat_fx(model: _Model) -> _Model:
    """Prepare a model for training in 4 bits, in place: every forward pass rounds its trunk.

    Raises `MissingExtraError` without torchao, and `UnsupportedCombination` if the model is already
    quantized.
    """
    _require_float(model, "prepare_qat_fx")
    _restructure(_network(model), "int4-qat")
    return model


def convert_qat_fx(model: _Model) -> _Model:
    """A copy of a prepared model in 4 bits, for inference. It computes the same function.

    Raises `UnsupportedCombination` if the model was not prepared.
    """
    if scheme_of(model) != "int4-qat":
        raise UnsupportedCombination(
            "convert_qat_fx needs a model that was trained in 4 bits; prepare it with "
            "prepare_qat_fx (or train --qat), train it, and then convert it"
        )
    copied = copy.deepcopy(model).eval()
    _swap(_network(copied), _is_prepared, _converted)
    return copied


def quantized(model: _Model, to: Literal["int8", "int4"]) -> _Model:
    """A copy of the model in 8 or 4 bits, for inference. A model that was trained in 4 bits keeps
    them; any other model is rounded to them."""
    if to == "int8":
        return quantize_dynamic(model)
    if scheme_of(model) == "int4-qat":
        return convert_qat_fx(model)
    return convert_qat_fx(prepare_qat_fx(copy.deepcopy(model)))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights in a saved file."""
    return sum(tensor.nbytes for tensor in _network(model).state_dict().values())


def scheme_of(model: nn.Module) -> Scheme | None:
    """The quantization scheme of a model. None if it is not quantized."""
    for module in model.modules():
        if isinstance(module, Int8Linear):
            return "int8"
        if isinstance(module, Int4Linear):
            return "int4"
        if _is_prepared(module):
            return "int4-qat"
    return None


def apply_scheme(network: BitTransformer, scheme: str | None) -> None:
    """Give a fresh network the modules of a scheme, in place, so that it can load such weights.

    Raises `CheckpointMismatchError` for an unknown scheme.
    """
    if scheme is None:
        return
    if scheme not in get_args(Scheme):
        raise CheckpointMismatchError(
            f"the checkpoint is quantized as {scheme!r}, but this version supports only "
            f"{', '.join(get_args(Scheme))}; load it with a newer version"
        )
    _restructure(network, scheme)


def require_trainable(model: nn.Module) -> None:
    """Raise `UnsupportedCombination` if the weights of a model are integers."""
    scheme = scheme_of(model)
    if scheme in ("int8", "int4"):
        raise UnsupportedCombination(_untrainable(scheme))


def _refuse_training(module: nn.Module) -> None:
    if module.training:
        raise UnsupportedCombination(_untrainable("quantized"))


def _untrainable(scheme: str) -> str:
    return (
        f"{scheme} weights are integers and cannot be trained; train first and then quantize, or "
        "train with --qat"
    )


def _require_float(model: nn.Module, name: str) -> None:
    scheme = scheme_of(model)
    if scheme is not None:
        raise UnsupportedCombination(
            f"{name} needs a model that is not quantized, these weights are {scheme}; use the "
            "model from before its quantization"
        )
    dtype = _network(model).dtype
    if dtype != torch.float32:
        raise UnsupportedCombination(
            f"{name} needs float32 weights, got {dtype}; call model.float() first"
        )


def _restructure(network: BitTransformer, scheme: Scheme | str) -> None:
    if scheme == "int8":
        _swap(network, lambda module: type(module) is nn.Linear, lambda m: Int8Linear(m.weight))
        _swap(network, lambda m: type(m) is nn.Embedding, lambda m: Int8Embedding(m.weight))
    elif scheme == "int4-qat":
        _prepare(network.stack)
    else:
        _swap(network.stack, lambda module: type(module) is nn.Linear, _blank_int4)


def _swap(
    root: nn.Module, chosen: Callable[[nn.Module], bool], replace: Callable[[Any], nn.Module]
) -> None:
    for module in list(root.modules()):
        for name, child in list(module.named_children()):
            if chosen(child):
                setattr(module, name, replace(child).train(child.training))


def _blank_int4(linear: nn.Linear) -> Int4Linear:
    rows, width = linear.weight.shape
    weight = linear.weight.detach()
    groups = weight.new_ones(rows, width // _group_of(linear))
    return Int4Linear(torch.zeros(rows, width, dtype=torch.int8, device=weight.device), groups)


def _converted(prepared: Any) -> Int4Linear:
    with torch.no_grad():
        rounded = prepared.weight_fake_quantizer(prepared.weight)
        scale = prepared.weight_fake_quantizer.scale.view(len(rounded), -1)
        integers = rounded.view(*scale.shape, -1) / scale[..., None]
    return Int4Linear(integers.round().to(torch.int8).view(rounded.shape), scale)


def _group_of(linear: nn.Linear) -> int:
    return math.gcd(_GROUP, linear.in_features)


def _prepare(stack: nn.Module) -> None:
    """Let torchao prepare the matrices. The group size depends on the width of a matrix."""
    library, training = _torchao()
    linears = [module for module in stack.modules() if type(module) is nn.Linear]
    for group in {_group_of(linear) for linear in linears}:
        base = library.IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            granularity=library.PerGroup(group),
        )
        with _silence():
            library.quantize_(
                stack,
                training.QATConfig(base, step="prepare"),
                lambda module, _, size=group: (
                    type(module) is nn.Linear and _group_of(module) == size
                ),
            )


def _is_prepared(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and "weight_fake_quantizer" in dict(
        module.named_children()
    )


def _network(model: nn.Module) -> BitTransformer:
    return next(module for module in model.modules() if isinstance(module, BitTransformer))


@functools.cache
def _torchao() -> tuple[Any, Any]:
    # Users without torchao can still load the model after `quantize --to int4`.
    purpose = "training in 4 bits, or loading such a run before `quantize --to int4`,"
    with _silence(), extra_imports("torchao", extra="qat", purpose=purpose):
        return (
            importlib.import_module("torchao.quantization"),
            importlib.import_module("torchao.quantization.qat"),
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Context without warnings and logs. Torchao reports missing kernels and deprecations at its
    imports, some of which happen late, and users can do nothing about them."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
