"""BitTransformerLM: a language model over bits. Any bytes are training data."""

from bit_transformer.bits.codec import bits_to_bytes, bits_to_text, bytes_to_bits, text_to_bits
from bit_transformer.bits.packing import pack_bits, unpack_bits
from bit_transformer.bits.parity import enforce_parity
from bit_transformer.bits.run_length import (
    compress_bits,
    decompress_bits,
    model_output_decompress,
)
from bit_transformer.data.config import DataConfig
from bit_transformer.errors import BitTransformerError
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import SamplingConfig
from bit_transformer.inference.score import Score
from bit_transformer.lm import BitTransformerLM, score
from bit_transformer.model.config import ModelConfig, preset
from bit_transformer.model.dropout import set_dropout
from bit_transformer.training.config import OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.training.fit import RunResult, fit
from bit_transformer.training.optimizer import adjust_learning_rate, configure_optimizer
from bit_transformer.training.precision import cpu_autocast
from bit_transformer.training.schedule import cosine_ramp

__version__ = "0.1.0"

__all__ = [
    "BitTransformerError",
    "BitTransformerLM",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Predictor",
    "RunConfig",
    "RunResult",
    "SamplingConfig",
    "Score",
    "TrainConfig",
    "adjust_learning_rate",
    "bits_to_bytes",
    "bits_to_text",
    "bytes_to_bits",
    "compress_bits",
    "configure_optimizer",
    "cosine_ramp",
    "cpu_autocast",
    "decompress_bits",
    "enforce_parity",
    "fit",
    "model_output_decompress",
    "pack_bits",
    "preset",
    "score",
    "set_dropout",
    "text_to_bits",
    "unpack_bits",
]
