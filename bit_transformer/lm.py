"""`BitTransformerLM`, the public model class: network, telemetry, inference and files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
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
from bit_transformer.errors import ConfigError, ContextLengthError, InvalidBitsError
from bit_transformer.inference.dynamic_evaluation import Learns, adaptive_surprisal
from bit_transformer.inference.generate import BitStream, generate_bits, stream_bits
from bit_transformer.inference.predictor import log2_likelihood
from bit_transformer.inference.samples import Sample, draw_samples
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.score import (
    AdaptiveScore,
    Score,
    adaptive_score,
    score_bytes,
)
from bit_transformer.inference.stop import Stop
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer, bit_logits, evaluating
from bit_transformer.network_spec import NetworkSpec, build_network, load_weights, spec_of
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.telemetry.forward_pass import LazyMetrics, pass_metrics
from bit_transformer.telemetry.probe import Probe


class BitTransformerLM(nn.Module):
    """A bit-native language model.

    Arguments are the fields of `ModelConfig`: `BitTransformerLM(d_model=256, patch_size=8, ...)`.
    Bits are 0/1 tensors of any integer dtype or bool, most significant bit of each byte first.

    `fit` trains a model. In a loop of your own, minimise `-log2_likelihood(bits).mean()` with the
    optimizer of `configure_optimizer(model)`. The context memory has sparse gradients, which AdamW
    rejects ("does not support sparse gradients"). `model.network.memory.rows.sparse = False` makes
    them dense for any optimizer, but then each step costs time for all rows of the memory.
    `examples/own_loop.py` shows both.
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
        """`network` is a built network, which replaces the settings.

        The other named arguments control how the model is used, and they are not saved with it.
        `full_attn_logging` and `log_activations` add `attention_maps` and `activations` to the
        telemetry; maps need memory quadratic in the context. S is computed against `reference`, a
        frozen model, if there is one. The lambdas are the weights of the penalties in `fit`, see
        `ObjectiveConfig`. `use_checkpoint` stores only the input of each block for the backward
        pass. `use_autocast` computes matrix products in bfloat16, in `forward`, `log2_likelihood`
        and `fit`.

        Raises `ConfigError` for an unknown or invalid setting.
        """
        super().__init__()
        if network is None:
            network = build_network(NetworkSpec(ModelConfig.from_dict(settings)))
        elif settings:
            raise ConfigError(
                f"network excludes model settings, got {sorted(settings)}; pass one or the other"
            )
        self.network, self.config = network, network.config
        self.full_attn_logging, self.log_activations = full_attn_logging, log_activations
        self.objective = ObjectiveConfig(lambda_k=lambda_K, lambda_c=lambda_C, lambda_s=lambda_S)
        """The objective that `fit` trains this model for."""
        self.use_checkpoint, self.use_autocast = use_checkpoint, use_autocast
        if use_checkpoint:
            checkpoint_blocks(self.network)
        # The tuple hides the reference from nn.Module, so that it is not trained, moved or saved.
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
        p(0), p(1). With `causal=False` it is given the whole context, even with chunked attention.

        The telemetry has K and C of the bits and of their predictions, S, and attention entropy,
        see `pass_metrics`. A value is computed at its first access, which must come before the
        weights change.
        """
        self._check_bits(bits)
        with Probe(self.network) as probe, self._autocast():
            ones = bit_logits(self.network, functional.pad(bits, (0, 1)), causal=causal)
        metrics = pass_metrics(
            bits,
            ones[:, :-1],
            probe,
            symbol_bits=self.config.bits_per_byte,
            reference=self._reference_probabilities(bits),
            maps=self.full_attn_logging,
            activations=self.log_activations,
        )
        logits = ones[:, 1:]
        return torch.stack((torch.zeros_like(logits), logits), dim=-1), metrics

    def forward_compressed(
        self, streams: Sequence[BitsLike], *, causal: bool = True
    ) -> tuple[Float[Tensor, "B T 2"], LazyMetrics]:
        """`forward` of the decoded bits of run-length streams (see `bits.run_length`).

        Raises `InvalidBitsError` for an invalid stream, and for rows of different lengths.
        """
        rows = model_output_decompress(list(streams))
        if len({len(row) for row in rows}) != 1:
            raise InvalidBitsError(
                "the streams of a batch must decode to equally many bits, got "
                f"{[len(row) for row in rows]}; pad the bits before you compress them"
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
        """log2 p(bit t | bits before t) of each bit. The sum is minus the code length in bits.

        It is differentiable. The code length of parity bits is 0.
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
        """The prompt and `max_new_bits` sampled bits. `SamplingConfig` explains the filters.

        The prompt may be empty (T = 0) and may end inside a patch. Prompt and result may be longer
        than the context. A single sequence ends before the first `stop` string, bytes or text, in
        its new bytes. Row i draws the same random numbers in a batch of any size, so its bits are
        the same up to rounding; `sample` excludes even that. Dropout is off.

        Raises `ConfigError` for settings outside their limits, and `InvalidPredictionError` when
        the model predicts NaN.
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
        """The new bits of `generate` in pieces as they are drawn. `ended` of the stream has the
        reason of its end. Bits that may begin a stop string are held back until that is decided.

        Raises `ConfigError` in training mode, in which dropout would change the samples.
        """
        self._check_bits(prompt_bits, any_length=True)
        if self.training:
            raise ConfigError(
                "stream needs a model in evaluation mode, this one is in training mode; call "
                "model.eval() first"
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
        """Continuations of `prompt` in bytes, each with the reason of its end.

        Sample i depends only on the seed and on i, and not on the number of samples. The command
        line and the server draw the same samples.
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
        """Bits per byte of any data, and the surprisal of each byte. See `score_bytes`."""
        with evaluating(self):
            return score_bytes(
                self.network, data, window_bytes=window_bytes, overlap_bytes=overlap_bytes
            )

    def adaptive_score(
        self,
        data: bytes | bytearray | memoryview | UInt8[np.ndarray, " n"],
        *,
        learns: Learns = "head",
        window_bytes: int | None = None,
        overlap_bytes: int | None = None,
    ) -> AdaptiveScore:
        """The score of this model, and that of a copy whose head, or head and context memory, learn
        from what they have scored. See `dynamic_evaluation`, also for the errors."""
        with evaluating(self):
            read = partial(adaptive_surprisal, self.network, learns=learns)
            windows = {"window_bytes": window_bytes, "overlap_bytes": overlap_bytes}
            return adaptive_score(self.network, data, read, **windows)

    def save_pretrained(self, folder: str | Path, **metadata: Any) -> Path:
        """Write weights, config and `metadata` (JSON) to a new folder, atomically."""
        target = Path(folder)
        save_checkpoint(
            target,
            weights=self.network.state_dict(),
            config=spec_of(self.network).to_dict(),
            training_state=None,
            metadata=metadata,
            objective=self.objective.objective,
        )
        return target

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str = "cpu"
    ) -> "BitTransformerLM":
        """Load the model of a run folder, a checkpoint folder or a `save_pretrained` folder, in
        evaluation mode.

        Quantized weights stay quantized. The objective is the one that the checkpoint names, with
        default settings. Raises `CheckpointError` when the folder has no model, is damaged, or has
        weights that do not fit its config. Raises `MissingExtraError` for a run in 4 bits when
        torchao is not installed.
        """
        checkpoint = load_checkpoint(locate_checkpoint(folder), device=device)
        network = build_network(NetworkSpec.from_dict(checkpoint.config))
        load_weights(network, checkpoint.weights, where=folder)
        model = cls(network=network).to(device).eval()
        model.objective = ObjectiveConfig(checkpoint.objective)
        return model

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
    """Bits per byte of data under a model, and the surprisal of each byte. See `score_bytes`."""
    return model.score(data, window_bytes=window_bytes, overlap_bytes=overlap_bytes)


def infer_long_sequence(
    model: BitTransformerLM,
    bits: Integer[Tensor, " T"] | Sequence[int],
    *,
    ctx_bits: int | None = None,
    overlap_bits: int | None = None,
) -> tuple[UInt8[Tensor, " T"], list[Mapping[str, Tensor]]]:
    """The likeliest next bit after each bit of a sequence of any length, and telemetry by window.

    Windows have `ctx_bits` (default: the whole context). Every window except the first begins with
    `overlap_bits` (default: half a window) that serve only as context.

    Raises `ConfigError` for windows that are not whole patches, are longer than the context, or are
    not longer than their overlap.
    """
    row = torch.as_tensor(bits, device=model.network.device)
    window, overlap = _long_window(model.config, ctx_bits, overlap_bits)
    predicted = [row.new_zeros(0, dtype=torch.uint8)]
    telemetry: list[Mapping[str, Tensor]] = []
    with evaluating(model), torch.no_grad():
        for start in range(0, max(1, len(row) - overlap), window - overlap):
            logits, metrics = model(row[None, start : start + window])
            new = logits[0, overlap if start else 0 :].argmax(-1)
            predicted.append(new.to(torch.uint8))
            telemetry.append(dict(metrics))
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
