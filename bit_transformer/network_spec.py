"""`NetworkSpec`, from which a network is built: its configuration, its quantization scheme and,
after pruning, the widths of each layer. Checkpoints store it beside the weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bit_transformer.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    ConfigError,
    require,
)
from bit_transformer.model.config import LayerWidths, ModelConfig
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.quantization import apply_scheme, scheme_of


@dataclass(frozen=True)
class NetworkSpec:
    """The structure of a network, without its weights."""

    model: ModelConfig
    quantization: str | None = None
    """`int8`, `int4-qat` or `int4`, see `quantization.py`. None: not quantized."""
    layers: tuple[LayerWidths, ...] | None = None
    """Heads and hidden width of each block. None: those of `model` in all blocks."""

    def __post_init__(self) -> None:
        if self.layers is not None:
            count = len(self.layers)
            require(
                count == self.model.num_layers,
                "the number of layer widths",
                count,
                f"num_layers={self.model.num_layers}",
            )

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values."""
        widths = None if self.layers is None else [dataclasses.asdict(one) for one in self.layers]
        return {
            "model": self.model.to_dict(),
            "quantization": self.quantization,
            "layers": widths,
        }

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "NetworkSpec":
        """The spec that `to_dict` wrote. Raises `ConfigError` for any other content."""
        try:
            widths = spec.get("layers")
            layers = None if widths is None else tuple(LayerWidths(**one) for one in widths)
            return cls(ModelConfig.from_dict(spec["model"]), spec.get("quantization"), layers)
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the network spec is invalid ({type(error).__name__}: {error}); use a checkpoint "
                "that this program wrote"
            ) from error


def build_network(spec: NetworkSpec) -> BitTransformer:
    """A network with fresh weights.

    Raises `CheckpointMismatchError` for an unknown quantization scheme, and `MissingExtraError`
    when the scheme needs a library that is not installed.
    """
    network = BitTransformer(spec.model, spec.layers)
    apply_scheme(network, spec.quantization)
    return network


def spec_of(network: BitTransformer) -> NetworkSpec:
    """The spec from which `build_network` makes a network of the same structure."""
    usual = LayerWidths(network.config.nhead, network.config.dim_feedforward)
    layers = tuple(block.widths for block in network.stack)
    same = all(widths == usual for widths in layers)
    return NetworkSpec(network.config, scheme_of(network), None if same else layers)


def load_weights(network: BitTransformer, weights: Mapping[str, Tensor], *, where: object) -> None:
    """Copy weights into a network. `where` names their source in errors.

    Raises `CheckpointMismatchError`, which names the first weight that does not fit, and
    `CheckpointCorruptError`, which names the first with NaN or infinity.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        here, there = own.get(name), weights.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (here, there)]
            raise CheckpointMismatchError(
                f"weight {name!r} has shape {shapes[0]} in the model and {shapes[1]} in {where}; "
                "load it into a model of the configuration that it was saved with"
            )
        if there.is_floating_point() and not bool(there.isfinite().all()):
            raise CheckpointCorruptError(
                f"weight {name!r} in {where} holds NaN or infinity; the model's weights are "
                "damaged: load a good checkpoint"
            )
    network.load_state_dict(dict(weights))
