"""Weights in 8 and 4 bits: modules swapped after a network is built.

int8      after training: matrices with a scale per row, inputs rounded as they come; the table of
          the context memory with a scale per row
int4-qat  while training: torchao rounds the trunk's matrices in every forward pass, gradients pass
          straight through (Bengio et al. 2013, arXiv:1308.3432)
int4      after such training: the same rounded matrices, two weights to a byte

Embedding, head and norms stay as they are: they are small, and every bit passes through them.
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

from bit_transformer.errors import (
    CheckpointMismatchError,
    ConfigError,
    MissingExtraError,
    UnsupportedCombination,
)
from bit_transformer.model.transformer import BitTransformer

Scheme = Literal["int8", "int4-qat", "int4"]
_Model = TypeVar("_Model", bound=nn.Module)
_GROUP = 32
"""Weights of a row that share a scale in 4 bits."""
_LARGEST = 127


def scale_rows(
    x: Float[Tensor, "*rows D"],
) -> tuple[Int8[Tensor, "*rows D"], Float[Tensor, "*rows 1"]]:
    """Each row as integers in [-127, 127] times a scale; no entry is off by more than half of it.

    A row of zeros has the scale 1.
    """
    scale = x.abs().amax(-1, keepdim=True) / _LARGEST
    scale = torch.where(scale > 0, scale, 1.0)
    return (x / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer without bias in 8 bits; each input row is rounded to 8 bits as it comes.

    The result is off by at most the sum of both roundings: per product half a scale times the other
    factor, and a quarter of both scales.
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
    """Exact integer products; devices whose integer kernel wants larger shapes take floats.

    So does a single column, of which the kernel of torch 2.13 reads the wrong strides.
    """
    if rows.device.type == "cpu" and len(rows) and rows.shape[1] > 1:
        return torch._int_mm(rows, weight.t())
    # float64 holds every sum of products of 8-bit integers exactly; float32 up to a width of 1040.
    dtype = torch.float32 if rows.shape[1] * _LARGEST**2 < 2**24 else torch.float64
    return rows.to(dtype) @ weight.t().to(dtype)


class Int8Embedding(nn.Module):
    """Rows in 8 bits with a scale each, in float16."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Float[Tensor, "rows D"]) -> None:
        super().__init__()
        _, scale = scale_rows(weight.detach())
        scale = scale.to(torch.float16).clamp(min=torch.finfo(torch.float16).tiny)
        rounded = (weight.detach() / scale.to(weight.dtype)).round().clamp(-_LARGEST, _LARGEST)
        self.register_buffer("weight", rounded.to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, indices: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        """The rows at these indices, in float32."""
        _refuse_training(self)
        rows, scale = (functional.embedding(indices, part) for part in (self.weight, self.scale))
        return rows.float() * scale.float()


class Int4Linear(nn.Module):
    """A linear layer without bias whose weights are stored in 4 bits, a scale for each group.

    Stored small, computed in float32: the weights are unpacked when they are first used.
    """

    packed: Tensor
    scale: Tensor

    def __init__(
        self, weight: Integer[Tensor, "out D"], scale: Float[Tensor, "out groups"]
    ) -> None:
        """Of integers in [-8, 7]; raises `ConfigError` for an odd width."""
        super().__init__()
        if weight.shape[1] % 2:
            raise ConfigError(f"4-bit weights come in pairs, the width is {weight.shape[1]}")
        self.register_buffer("packed", pack_nibbles(weight))
        self.register_buffer("scale", scale.detach().clone())
        self._unpacked: Tensor | None = None

    @property
    def weight(self) -> Float[Tensor, "out D"]:
        """The weights as they are used."""
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
    """Integers in [-8, 7], two to a byte, the first in the upper half, each plus 8."""
    pairs = (weight + 8).to(torch.uint8).view(len(weight), -1, 2)
    return pairs[..., 0] << 4 | pairs[..., 1]


def unpack_nibbles(packed: UInt8[Tensor, "out half"]) -> Int8[Tensor, "out D"]:
    """The inverse of `pack_nibbles`."""
    pairs = torch.stack((packed >> 4, packed & 15), dim=-1).flatten(1)
    return pairs.to(torch.int8) - 8


def quantize_dynamic(model: _Model) -> _Model:
    """A copy in 8 bits, for inference; the model itself stays as it is.

    Raises `UnsupportedCombination` for a model that is quantized already.
    """
    _require_float(model, "quantize_dynamic")
    copied = copy.deepcopy(model).eval()
    _restructure(_network(copied), "int8")
    return copied


def prepare_qat_fx(model: _Model) -> _Model:
    """The same model, its trunk from now on rounded to 4 bits in every forward pass, to be trained.

    Raises `MissingExtraError` without torchao, `UnsupportedCombination` for a model that is
    quantized already.
    """
    _require_float(model, "prepare_qat_fx")
    _restructure(_network(model), "int4-qat")
    return model


def convert_qat_fx(model: _Model) -> _Model:
    """A copy in 4 bits, for inference, that computes what the prepared model computes.

    Raises `UnsupportedCombination` for a model that was not prepared.
    """
    if scheme_of(model) != "int4-qat":
        raise UnsupportedCombination(
            "convert_qat_fx turns a model that was trained in 4 bits into a 4-bit one; prepare it "
            "with prepare_qat_fx (or train --qat), train it, and convert it then"
        )
    copied = copy.deepcopy(model).eval()
    _swap(_network(copied), _is_prepared, _converted)
    return copied


def quantized(model: _Model, to: Literal["int8", "int4"]) -> _Model:
    """A copy in 8 or 4 bits, for inference. The 4 bits that a model was trained in are kept, one
    that was not is rounded."""
    if to == "int8":
        return quantize_dynamic(model)
    if scheme_of(model) == "int4-qat":
        return convert_qat_fx(model)
    return convert_qat_fx(prepare_qat_fx(copy.deepcopy(model)))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are saved."""
    return sum(tensor.nbytes for tensor in _network(model).state_dict().values())


def scheme_of(model: nn.Module) -> Scheme | None:
    """How a model's weights are held; None for ordinary ones."""
    for module in model.modules():
        if isinstance(module, Int8Linear):
            return "int8"
        if isinstance(module, Int4Linear):
            return "int4"
        if _is_prepared(module):
            return "int4-qat"
    return None


def apply_scheme(network: BitTransformer, scheme: str | None) -> None:
    """Give a fresh network the modules of a scheme, in place, ready to load quantized weights.

    Raises `CheckpointMismatchError` for an unknown scheme.
    """
    if scheme is None:
        return
    if scheme not in get_args(Scheme):
        raise CheckpointMismatchError(
            f"the checkpoint is quantized as {scheme!r}, this version knows {get_args(Scheme)}; "
            "load it with a newer version"
        )
    _restructure(network, scheme)


def require_trainable(model: nn.Module) -> None:
    """`UnsupportedCombination` for a model whose weights are integers."""
    scheme = scheme_of(model)
    if scheme in ("int8", "int4"):
        raise UnsupportedCombination(_untrainable(scheme))


def _refuse_training(module: nn.Module) -> None:
    if module.training:
        raise UnsupportedCombination(_untrainable("quantized"))


def _untrainable(scheme: str) -> str:
    return (
        f"{scheme} weights are integers and cannot be trained; train first and quantize then, or "
        "train with --qat"
    )


def _require_float(model: nn.Module, name: str) -> None:
    scheme = scheme_of(model)
    if scheme is not None:
        raise UnsupportedCombination(
            f"{name} needs ordinary weights, these are {scheme}; start from the model as it was "
            "before"
        )
    dtype = _network(model).dtype
    if dtype != torch.float32:
        raise UnsupportedCombination(
            f"{name} and weights of {dtype} exclude each other; call model.float() first"
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
    """Have torchao round the matrices; those of one width have groups of one size."""
    library, training = _torchao()
    linears = [module for module in stack.modules() if type(module) is nn.Linear]
    for group in {_group_of(linear) for linear in linears}:
        base = library.IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            granularity=library.PerGroup(group),
        )
        with _no_library_speaks():
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
    try:
        with _no_library_speaks():
            return (
                importlib.import_module("torchao.quantization"),
                importlib.import_module("torchao.quantization.qat"),
            )
    except ImportError as error:
        raise MissingExtraError(
            "training in 4 bits, and loading a checkpoint of such a training, needs torchao; "
            "pip install 'bit-transformer[qat]', or load the model after `quantize --to int4`"
        ) from error


@contextmanager
def _no_library_speaks() -> Iterator[None]:
    """Torchao announces as its parts are imported, some of them late, which kernels this machine
    cannot load and what its next version will refuse."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
