"""BitTransformerLM: a language model over bits. Any bytes are training data."""

from bit_transformer.bits.codec import bits_to_bytes, bits_to_text, bytes_to_bits, text_to_bits
from bit_transformer.bits.packing import pack_bits, unpack_bits
from bit_transformer.bits.parity import enforce_parity
from bit_transformer.bits.run_length import (
    compress_bits,
    decompress_bits,
    model_output_decompress,
)
from bit_transformer.compression.decoding import decode
from bit_transformer.compression.encoding import CodecConfig, encode
from bit_transformer.compression.mixing_predictor import MixingPredictor
from bit_transformer.data.config import DataConfig
from bit_transformer.errors import BitTransformerError
from bit_transformer.hub.checkpoints import download_checkpoint, hf_login, save_checkpoint
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import SamplingConfig
from bit_transformer.inference.score import Score
from bit_transformer.inference.watch import watch
from bit_transformer.lm import BitTransformerLM, infer_long_sequence, score
from bit_transformer.model.config import ModelConfig, preset
from bit_transformer.model.dropout import set_dropout
from bit_transformer.quantization import convert_qat_fx, prepare_qat_fx, quantize_dynamic
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import guarded_stream
from bit_transformer.safety.review import ReviewItem, ReviewQueue
from bit_transformer.safety.sampling import (
    demo_hil_safety,
    hil_safe_inference,
    infer_text,
    safe_sample_with_retry,
)
from bit_transformer.telemetry.drift import (
    DriftDetector,
    MetricDriftWarning,
    detect_metric_drift,
)
from bit_transformer.telemetry.log import TelemetryLog
from bit_transformer.telemetry.plots import plot_telemetry
from bit_transformer.telemetry.synthesizer import TelemetrySynthesizer, drift_between
from bit_transformer.training.config import OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.training.fit import RunResult, fit
from bit_transformer.training.optimizer import adjust_learning_rate, configure_optimizer
from bit_transformer.training.precision import cpu_autocast
from bit_transformer.training.schedule import cosine_ramp

__version__ = "0.1.0"

__all__ = [
    "BitTransformerError",
    "BitTransformerLM",
    "CodecConfig",
    "DataConfig",
    "DriftDetector",
    "MetricDriftWarning",
    "MixingPredictor",
    "ModelConfig",
    "OptimizerConfig",
    "Predictor",
    "ReviewItem",
    "ReviewQueue",
    "RunConfig",
    "RunResult",
    "SafetyGate",
    "SamplingConfig",
    "Score",
    "TelemetryLog",
    "TelemetrySynthesizer",
    "TrainConfig",
    "adjust_learning_rate",
    "bits_to_bytes",
    "bits_to_text",
    "bytes_to_bits",
    "compress_bits",
    "configure_optimizer",
    "convert_qat_fx",
    "cosine_ramp",
    "cpu_autocast",
    "decode",
    "decompress_bits",
    "demo_hil_safety",
    "detect_metric_drift",
    "download_checkpoint",
    "drift_between",
    "encode",
    "enforce_parity",
    "fit",
    "guarded_stream",
    "hf_login",
    "hil_safe_inference",
    "infer_long_sequence",
    "infer_text",
    "model_output_decompress",
    "pack_bits",
    "plot_telemetry",
    "prepare_qat_fx",
    "preset",
    "quantize_dynamic",
    "safe_sample_with_retry",
    "save_checkpoint",
    "score",
    "set_dropout",
    "text_to_bits",
    "unpack_bits",
    "watch",
]
