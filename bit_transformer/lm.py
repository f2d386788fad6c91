"""The public face of a model: one class that joins network, telemetry, inference and files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.bits.array import BitsLike
from bit_transformer.bits.codec import as_bytes
from bit_transformer.bits.run_length import model_output_decompress
from bit_transformer.bits.tensor import require_batch, require_zeros_and_ones
from bit_transformer.checkpoint.format import load_checkpoint, save_checkpoint
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.errors import (
    ConfigError,
    ContextLengthError,
    InvalidBitsError,
)
from bit_transformer.inference.generate import BitStream, generate_bits, stream_bits
from bit_transformer.inference.predictor import log2_likelihood
from bit_transformer.inference.samples import Sample, draw_samples
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.score import Score, score_bytes
from bit_transformer.inference.stop import Stop
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer, bit_logits, evaluating
from bit_transformer.network_spec import NetworkSpec, build_network, load_weights, spec_of
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.telemetry.forward_pass import LazyMetrics, pass_metrics
from bit_transformer.telemetry.probe import Probe


class BitTransformerLM(nn.Module):
    """A bit-native language model.

    Built from the fields of `ModelConfig`: `BitTransformerLM(d_model=256, patch_size=8, ...)`.
    Bits are 0/1 tensors of any integer dtype or bool, most significant bit of each byte first.

    `fit` trains it. In a loop of your own, minimise `-log2_likelihood(bits).mean()` with the
    optimizer of `configure_optimizer(model)`: the context memory gives sparse gradients, which
    AdamW refuses ("does not support sparse gradients"). With
    `model.network.memory.rows.sparse = False` they are dense and any optimizer takes them, but each
    step then costs time for all rows of the memory. `examples/own_loop.py` shows both.
    """

    def __init__(  # noqa: PLR0913 -- documented names, by keyword
        self,
        *,
        full_attn_logging: bool = False,
        log_activations: bool = False,
        reference: "BitTransformerLM | None" = None,
        lambda_K: float = 0.0,
        lambda_C: float = 0.0,
        lambda_S: float = 0.0,
        use_checkpoint: bool = False,
        use_autocast: bool = False,
        network: BitTransformer | None = None,
        **settings: Any,
    ) -> None:
        """`network` is a built network, in place of settings to build one from.

        The other named arguments say how the model is used; they are not saved with it.
        `full_attn_logging` and `log_activations` add `attention_maps` and `activations` to the
        telemetry; without the first, no map of all positions against all is ever built. S is held
        against `reference`, a frozen model, where one is given. The lambdas are the weights of the
        penalties that `fit` trains it with, see `ObjectiveConfig`. `use_checkpoint` keeps only
        the input of each block for the backward pass, and `use_autocast` has matrix products done
        in bfloat16, in `forward`, `log2_likelihood` and `fit`.

        Raises `ConfigError` for a setting that does not exist or cannot be built.
        """
        super().__init__()
        if network is None:
            network = build_network(NetworkSpec(ModelConfig.from_dict(settings)))
        elif settings:
            raise ConfigError(f"a built network excludes model settings, got {sorted(settings)}")
        self.network, self.config = network, network.config
        self.full_attn_logging, self.log_activations = full_attn_logging, log_activations
        self.objective = ObjectiveConfig(lambda_k=lambda_K, lambda_c=lambda_C, lambda_s=lambda_S)
        """The objective that `fit` trains this model for."""
        self.use_checkpoint, self.use_autocast = use_checkpoint, use_autocast
        if use_checkpoint:
            checkpoint_blocks(self.network)
        # In a tuple: a reference is no part of this module and trains with nobody.
        self._reference = (reference,)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights that stay unquantized."""
        return self.network.dtype

    @classmethod
    def from_config(cls, config: ModelConfig) -> "BitTransformerLM":
        """A model with fresh weights."""
        return cls(**config.to_dict())

    def forward(
        self, bits: Integer[Tensor, "B T"], *, causal: bool = True
    ) -> tuple[Float[Tensor, "B T 2"], LazyMetrics]:
        """`logits[:, t]` scores bit t + 1 given bits 0 to t; softmax over the last axis gives
        p(0), p(1). With `causal=False` it is given the whole context, whatever the chunks are.

        The telemetry is computed as it is read, see `pass_metrics`: K and C of the bits and of the
        predictions made of them, S, attention entropy. Read it before the weights change.
        """
        self._check_bits(bits)
        with Probe(self.network) as probe, self._autocast():
            ones = bit_logits(self.network, functional.pad(bits, (0, 1)), causal=causal)
        readings = pass_metrics(
            bits,
            ones[:, :-1],
            probe,
            symbol_bits=self.config.bits_per_byte,
            reference=self._reference_probabilities(bits),
            maps=self.full_attn_logging,
            activations=self.log_activations,
        )
        logits = ones[:, 1:]
        return torch.stack((torch.zeros_like(logits), logits), dim=-1), readings

    def forward_compressed(
        self, streams: Sequence[BitsLike], *, causal: bool = True
    ) -> tuple[Float[Tensor, "B T 2"], LazyMetrics]:
        """`forward` of the bits that run-length streams stand for (see `bits.run_length`).

        Raises `InvalidBitsError` for a stream that is none, and for streams of different lengths.
        """
        rows = model_output_decompress(list(streams))
        if len({len(row) for row in rows}) != 1:
            raise InvalidBitsError(
                "streams of one batch must stand for equally many bits, got "
                f"{[len(row) for row in rows]}; pad the bits before they are compressed"
            )
        bits = torch.from_numpy(np.stack(rows)).to(self.network.device)
        return self(bits, causal=causal)

    def _reference_probabilities(
        self, bits: Integer[Tensor, "B T"]
    ) -> Callable[[], Float[Tensor, "B T"]] | None:
        (reference,) = self._reference
        if reference is None:
            return None

        def probabilities() -> Tensor:
            with evaluating(reference), torch.no_grad():
                return torch.sigmoid(bit_logits(reference.network, bits))

        return probabilities

    def log2_likelihood(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """log2 p(bit t | bits before t), the first bit included; its sum is minus the code length.

        Differentiable. The code length of parity bits is 0.
        """
        self._check_bits(bits)
        with self._autocast():
            logits = bit_logits(self.network, bits)
        return log2_likelihood(logits, bits)

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self.use_autocast:
            return nullcontext()
        return torch.autocast(self.network.device.type, dtype=torch.bfloat16)

    def generate(  # noqa: PLR0913 -- the filters of `SamplingConfig`, by keyword
        self,
        prompt_bits: Integer[Tensor, "B T"],
        max_new_bits: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        valid_utf8: bool = False,
        generator: torch.Generator | None = None,
        stop: Stop = (),
    ) -> UInt8[Tensor, "B total"]:
        """The prompt and `max_new_bits` sampled bits; see `SamplingConfig` for the filters.

        The prompt may be empty (T = 0), may end inside a patch, and both may be longer than the
        context. A single sequence ends before the first of the `stop` strings, bytes or text, that
        comes among its new bytes. Row i of a batch draws the same numbers however many rows there
        are, so its bits are the same as long as rounding decides nothing; those of `sample` are
        the same always. Dropout is off meanwhile.

        Raises `ConfigError` for settings outside their limits, `InvalidPredictionError` when
        predictions are not numbers.
        """
        self._check_bits(prompt_bits, any_length=True)
        sampling = SamplingConfig(temperature, top_k, top_p, min_p, valid_utf8)
        with evaluating(self):
            return generate_bits(
                self.network, prompt_bits, max_new_bits, sampling, generator, stop=stop
            )

    def stream(
        self,
        prompt_bits: Integer[Tensor, "1 T"],
        max_new_bits: int,
        *,
        sampling: SamplingConfig | None = None,
        generator: torch.Generator | None = None,
        stop: Stop = (),
    ) -> BitStream:
        """The new bits of `generate` piece by piece as they are drawn; `ended` of the stream then
        says why it ended. Bits that may be the beginning of a stop string wait until that is clear.

        Raises `ConfigError` in training mode, where dropout would change what is drawn.
        """
        self._check_bits(prompt_bits, any_length=True)
        if self.training:
            raise ConfigError(
                "a stream is drawn in evaluation mode, and the model is in training mode; call "
                "model.eval() before it"
            )
        return stream_bits(
            self.network,
            prompt_bits,
            max_new_bits,
            sampling or SamplingConfig(),
            generator,
            stop=stop,
        )

    def sample(
        self,
        prompt: bytes,
        new_bytes: int,
        *,
        sampling: SamplingConfig | None = None,
        seed: int = 0,
        samples: int = 1,
        stop: Stop = (),
    ) -> list[Sample]:
        """Continuations of `prompt` in bytes, each with why it ended.

        Sample i depends on the seed and on i alone: the first of two is the only one of one. The
        command line and the server draw the same.
        """
        with evaluating(self):
            return list(
                draw_samples(
                    self.network,
                    as_bytes(prompt).tobytes(),
                    new_bytes,
                    sampling or SamplingConfig(),
                    seed=seed,
                    samples=samples,
                    stop=stop,
                )
            )

    def score(
        self,
        data: bytes | bytearray | memoryview | UInt8[np.ndarray, " n"],
        *,
        window_bytes: int | None = None,
        overlap_bytes: int | None = None,
    ) -> Score:
        """Bits per byte and surprisal per byte of any data; see `score_bytes`."""
        with evaluating(self):
            return score_bytes(
                self.network, data, window_bytes=window_bytes, overlap_bytes=overlap_bytes
            )

    def save_pretrained(self, folder: str | Path, **metadata: Any) -> Path:
        """Write weights, config and `metadata` (JSON) to a new folder, atomically."""
        target = Path(folder)
        save_checkpoint(
            target,
            weights=self.network.state_dict(),
            config=spec_of(self.network).to_dict(),
            training_state=None,
            metadata=metadata,
        )
        return target

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str = "cpu"
    ) -> "BitTransformerLM":
        """The model of a run folder, a checkpoint folder or a `save_pretrained` folder, ready to
        infer.

        Quantized weights stay quantized. Raises `CheckpointError` when there is none, it is
        damaged, or its weights do not fit its config; `MissingExtraError` for one that is being
        trained in 4 bits, without torchao.
        """
        checkpoint = load_checkpoint(locate_checkpoint(folder), device=device)
        network = build_network(NetworkSpec.from_dict(checkpoint.config))
        load_weights(network, checkpoint.weights, where=folder)
        return cls(network=network).to(device).eval()

    def _check_bits(self, bits: Tensor, *, any_length: bool = False) -> None:
        require_batch(bits)
        if bits.shape[1] > self.config.max_seq_len and not any_length:
            raise ContextLengthError(
                f"the context holds {self.config.max_seq_len} bits, got {bits.shape[1]}; shorten "
                "the input, build the model with a larger max_seq_len, or use infer_long_sequence"
            )
        require_zeros_and_ones(bits)


def score(
    model: BitTransformerLM,
    data: bytes | bytearray | memoryview | UInt8[np.ndarray, " n"],
    *,
    window_bytes: int | None = None,
    overlap_bytes: int | None = None,
) -> Score:
    """Bits per byte and surprisal per byte of any data under a model; see `score_bytes`."""
    return model.score(data, window_bytes=window_bytes, overlap_bytes=overlap_bytes)


def infer_long_sequence(
    model: BitTransformerLM,
    bits: Integer[Tensor, " T"] | Sequence[int],
    *,
    ctx_bits: int | None = None,
    overlap_bits: int | None = None,
) -> tuple[UInt8[Tensor, " T"], list[Mapping[str, Tensor]]]:
    """The likeliest next bit after each bit of a sequence of any length, and telemetry by window.

    Read in windows of `ctx_bits` (default: the whole context); every window but the first begins
    with `overlap_bits` (default: half of it) that are context alone.

    Raises `ConfigError` for windows that are no whole patches, or do not fit context or each other.
    """
    row = torch.as_tensor(bits, device=model.network.device)
    window, overlap = _long_window(model.config, ctx_bits, overlap_bits)
    predicted = [row.new_zeros(0, dtype=torch.uint8)]
    telemetry: list[Mapping[str, Tensor]] = []
    with evaluating(model), torch.no_grad():
        for start in range(0, max(1, len(row) - overlap), window - overlap):
            logits, readings = model(row[None, start : start + window])
            new = logits[0, overlap if start else 0 :].argmax(-1)
            predicted.append(new.to(torch.uint8))
            telemetry.append(dict(readings))
    return torch.cat(predicted), telemetry


def _long_window(
    config: ModelConfig, ctx_bits: int | None, overlap_bits: int | None
) -> tuple[int, int]:
    patch = config.patch_size
    window = config.max_seq_len // patch * patch if ctx_bits is None else ctx_bits
    overlap = window // 2 // patch * patch if overlap_bits is None else overlap_bits
    for name, bits in (("ctx_bits", window), ("overlap_bits", overlap)):
        if bits % patch:
            raise ConfigError(
                f"{name} must be whole patches of {patch} bits, got {bits}; try "
                f"{max(1, round(bits / patch)) * patch}"
            )
    if not patch <= window <= config.max_seq_len:
        raise ConfigError(
            f"ctx_bits must be in [{patch}, {config.max_seq_len}], from one patch to the context, "
            f"got {window}"
        )
    if not 0 <= overlap < window:
        raise ConfigError(f"overlap_bits must be in [0, {window}), below ctx_bits, got {overlap}")
    return window, overlap
