"""BitTransformerLM: a language model over bits. Any bytes are training data.

Importing this package loads no library. A public name is imported from its module when it is first
used (PEP 562), so that a program that only compresses does not wait for torch.

errors                every error, as one tree
version               the version of the package
waiting               a log line that names the work when it takes long
settings              the base of all settings
extras                imports of optional libraries
atomic                writes files that are either the old or the new one
ramp                  a smooth ramp, from which schedules are made
device                number formats and threads, chosen for the processor
native                sequential algorithms as machine code, cached on disk
bits                  bytes and text to bits and back
data                  files to resumable, rank-sharded batches of bits
model                 the network: plain modules without loss or files
telemetry             the metrics K, C, S and others; probes, drift, clusters and plots
checkpoint            safetensors and JSON, atomic, verified, rotated; no pickle
quantization          weights in 8 and 4 bits
network_spec          from a description of a network to the network, and back
distributed           functions that spread a plain model over devices or compile it
objectives            what a network is trained for
inference             predictor, generation, scoring, constraints
lm                    BitTransformerLM: network, telemetry, inference and files in one class
safety                the gate, its calibration, guarded generation, the review queue
compression           lossless compression with a mixing predictor, a network, or both
training              the training loop, its callbacks, optimizers, run folders
transformers_adapter  models of this project under the library `transformers`
hub                   checkpoints to a Hugging Face hub and back
server                every operation as REST, MCP and command; the dashboard
cli                   the command line
utils, torch_utils, hf_checkpoint, dashboard_app   documented names of the earlier system
__main__              `python -m bit_transformer`
"""

from bit_transformer.version import __version__ as __version__

TYPE_CHECKING = False
"""Type checkers take this for true, so that `typing` need not be loaded."""

__all__ = [
    "BitTransformerError",
    "BitTransformerLM",
    "CheckpointConfig",
    "CodecConfig",
    "DataConfig",
    "DriftDetector",
    "EvaluationConfig",
    "MetricDriftWarning",
    "MixedNetwork",
    "MixingPredictor",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "Predictor",
    "RecoveryConfig",
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
    "load_mixer",
    "mixed",
    "model_output_decompress",
    "pack_bits",
    "plot_telemetry",
    "prepare_qat_fx",
    "preset",
    "quantize_dynamic",
    "safe_sample_with_retry",
    "save_checkpoint",
    "save_mixer",
    "score",
    "set_dropout",
    "text_to_bits",
    "unpack_bits",
    "watch",
]

if TYPE_CHECKING:
    from bit_transformer.bits.codec import (
        bits_to_bytes,
        bits_to_text,
        bytes_to_bits,
        pack_bits,
        text_to_bits,
        unpack_bits,
    )
    from bit_transformer.bits.parity import enforce_parity
    from bit_transformer.bits.run_length import (
        compress_bits,
        decompress_bits,
        model_output_decompress,
    )
    from bit_transformer.compression.config import CodecConfig
    from bit_transformer.compression.decoding import decode
    from bit_transformer.compression.encoding import encode
    from bit_transformer.compression.mixed_network import MixedNetwork, mixed
    from bit_transformer.compression.mixer_file import load_mixer, save_mixer
    from bit_transformer.compression.mixing_predictor import MixingPredictor
    from bit_transformer.data.config import DataConfig
    from bit_transformer.distributed.config import ParallelConfig
    from bit_transformer.errors import BitTransformerError
    from bit_transformer.hub.checkpoints import download_checkpoint, hf_login, save_checkpoint
    from bit_transformer.inference.predictor import Predictor
    from bit_transformer.inference.sampling_config import SamplingConfig
    from bit_transformer.inference.score import Score
    from bit_transformer.inference.watch import watch
    from bit_transformer.lm import BitTransformerLM, infer_long_sequence, score
    from bit_transformer.model.config import ModelConfig, preset
    from bit_transformer.model.transformer import set_dropout
    from bit_transformer.objectives.config import ObjectiveConfig
    from bit_transformer.quantization import convert_qat_fx, prepare_qat_fx, quantize_dynamic
    from bit_transformer.ramp import cosine_ramp
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
    from bit_transformer.training.config import (
        CheckpointConfig,
        EvaluationConfig,
        OptimizerConfig,
        RecoveryConfig,
        RunConfig,
        TrainConfig,
    )
    from bit_transformer.training.fit import fit
    from bit_transformer.training.optimizer import adjust_learning_rate, configure_optimizer
    from bit_transformer.training.precision import cpu_autocast
    from bit_transformer.training.result import RunResult

# The type checker reads the imports above. The interpreter looks a name up here.
_HOMES = {
    name: home
    for home, names in {
        "bits.codec": "bits_to_bytes bits_to_text bytes_to_bits pack_bits text_to_bits unpack_bits",
        "bits.parity": "enforce_parity",
        "bits.run_length": "compress_bits decompress_bits model_output_decompress",
        "compression.config": "CodecConfig",
        "compression.decoding": "decode",
        "compression.encoding": "encode",
        "compression.mixed_network": "MixedNetwork mixed",
        "compression.mixer_file": "load_mixer save_mixer",
        "compression.mixing_predictor": "MixingPredictor",
        "data.config": "DataConfig",
        "errors": "BitTransformerError",
        "hub.checkpoints": "download_checkpoint hf_login save_checkpoint",
        "inference.predictor": "Predictor",
        "inference.sampling_config": "SamplingConfig",
        "inference.score": "Score",
        "inference.watch": "watch",
        "lm": "BitTransformerLM infer_long_sequence score",
        "model.config": "ModelConfig preset",
        "model.transformer": "set_dropout",
        "quantization": "convert_qat_fx prepare_qat_fx quantize_dynamic",
        "ramp": "cosine_ramp",
        "safety.gate": "SafetyGate",
        "safety.guard": "guarded_stream",
        "safety.review": "ReviewItem ReviewQueue",
        "safety.sampling": "demo_hil_safety hil_safe_inference infer_text safe_sample_with_retry",
        "telemetry.drift": "DriftDetector MetricDriftWarning detect_metric_drift",
        "telemetry.log": "TelemetryLog",
        "telemetry.plots": "plot_telemetry",
        "telemetry.synthesizer": "TelemetrySynthesizer drift_between",
        "distributed.config": "ParallelConfig",
        "objectives.config": "ObjectiveConfig",
        "training.config": "CheckpointConfig EvaluationConfig OptimizerConfig RecoveryConfig "
        "RunConfig TrainConfig",
        "training.fit": "fit",
        "training.result": "RunResult",
        "training.optimizer": "adjust_learning_rate configure_optimizer",
        "training.precision": "cpu_autocast",
    }.items()
    for name in names.split()
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name or a submodule when it is first used."""
        from importlib import import_module
        from importlib.util import find_spec

        if name in _HOMES:
            found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        elif not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            found = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """List all public names, imported or not."""
        return sorted({*globals(), *__all__})
