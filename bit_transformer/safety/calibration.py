"""Calibrates a gate on held-out data of the model that it will guard."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import ConfigError, MissingExtraError
from bit_transformer.inference.predictor import Source
from bit_transformer.inference.watch import byte_metrics
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.telemetry.stream import StreamMetrics

FALSE_ALARM_RATE = 0.005
"""Default share of good windows that a calibrated gate may refuse."""
_JUDGED_WITHOUT_DENSITY = ("c", "s", "t")


def gate_windows(
    network: BitTransformer, regions: Iterable[UInt8[np.ndarray, " n"]], limit: int
) -> UInt8[np.ndarray, "count window"]:
    """Return up to `limit` windows of one context length each, spread evenly over the regions.

    The first half of a window counts as its prompt.
    """
    window = network.config.max_seq_len // network.config.bits_per_byte
    cut = [region[: len(region) // window * window].reshape(-1, window) for region in regions]
    rows = np.concatenate([np.zeros((0, window), np.uint8), *cut])
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(int)]


def calibrate_gate(
    network: BitTransformer,
    windows: UInt8[np.ndarray, "count window"],
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> SafetyGate:
    """Return a gate that refuses this share of windows such as these.

    The fewer the windows, the wider the bound in the gate's `calibration`. Without scikit-learn the
    gate has floors of C, S and T. Raises `ConfigError` for fewer windows than `fewest_windows`.
    """
    prompt = prompt_patches(network, windows)
    return gate_from_metrics(byte_metrics(network, windows), prompt, false_alarm_rate)


def gate_from_metrics(
    metrics: Sequence[StreamMetrics], prompt: int, false_alarm_rate: float = FALSE_ALARM_RATE
) -> SafetyGate:
    """Do what `calibrate_gate` does for windows whose metrics are known. The first `prompt` patches
    of each count as its prompt."""
    try:
        return SafetyGate.calibrate(metrics, false_alarm_rate, prompt_patches=prompt)
    except MissingExtraError:
        return SafetyGate.calibrate(
            metrics, false_alarm_rate, prompt_patches=prompt, judged=_JUDGED_WITHOUT_DENSITY
        )


def passing_shares(
    source: Source,
    windows: UInt8[np.ndarray, "count window"],
    gates: Sequence[SafetyGate],
) -> list[float]:
    """Return the share of windows that each gate passes, judging only their second halves. Their
    metrics are those under `source`."""
    if not len(windows):
        raise ConfigError("the data is shorter than one window; give more data")
    prompt = prompt_patches(source, windows)
    # Metrics are slow to compute, so gates with the same window length share them.
    metrics = {
        bits: byte_metrics(source, windows, window_bits=bits)
        for bits in {gate.window_bits for gate in gates}
    }
    passed = [
        [gate.judge(one, prompt_patches=prompt).passed for one in metrics[gate.window_bits]]
        for gate in gates
    ]
    return [float(np.mean(row)) for row in passed]


def prompt_patches(source: Source, windows: UInt8[np.ndarray, "count window"]) -> int:
    """Return the number of patches in the half of a window that counts as its prompt."""
    bits = windows.shape[1] // 2 * source.config.bits_per_byte
    return bits // source.config.patch_size
