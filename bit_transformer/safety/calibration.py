"""A gate's floors from held-out data of the model it will guard."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import ConfigError, MissingExtraError
from bit_transformer.inference.watch import byte_readings
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.telemetry.stream import Readings

FALSE_ALARM_RATE = 0.005
"""Share of good windows that a calibrated gate may hold back."""
_JUDGED_WITHOUT_DENSITY = ("c", "s", "t")


def gate_windows(
    network: BitTransformer, regions: Iterable[UInt8[np.ndarray, " n"]], limit: int
) -> UInt8[np.ndarray, "count window"]:
    """Up to `limit` stretches of data as long as the context, spread over the regions.

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
    """The gate that holds back that share of windows such as these; of few windows, a share that
    its `calibration` gives a wider bound for.

    Raises `ConfigError` for fewer windows than `fewest_windows`. Where scikit-learn is missing,
    floors are those of C, S and T alone.
    """
    prompt = prompt_patches(network, windows)
    return gate_of_readings(byte_readings(network, windows), prompt, false_alarm_rate)


def gate_of_readings(
    readings: Sequence[Readings], prompt: int, false_alarm_rate: float = FALSE_ALARM_RATE
) -> SafetyGate:
    """`calibrate_gate` of windows that were read already, `prompt` patches of which count as their
    prompt; raises what that does."""
    try:
        return SafetyGate.calibrate(readings, false_alarm_rate, prompt_patches=prompt)
    except MissingExtraError:
        return SafetyGate.calibrate(
            readings, false_alarm_rate, prompt_patches=prompt, judged=_JUDGED_WITHOUT_DENSITY
        )


def passing_shares(
    network: BitTransformer,
    windows: UInt8[np.ndarray, "count window"],
    gates: Sequence[SafetyGate],
) -> list[float]:
    """Share of windows that each gate lets pass, their first halves not judged."""
    if not len(windows):
        raise ConfigError("there is no whole window to judge; give more data")
    prompt = prompt_patches(network, windows)
    # Reading is the slow part: once for all gates that look at the same window.
    readings = {
        bits: byte_readings(network, windows, window_bits=bits)
        for bits in {gate.window_bits for gate in gates}
    }
    passed = [
        [gate.judge(one, prompt_patches=prompt).passed for one in readings[gate.window_bits]]
        for gate in gates
    ]
    return [float(np.mean(row)) for row in passed]


def prompt_patches(network: BitTransformer, windows: UInt8[np.ndarray, "count window"]) -> int:
    """Patches in the half of a window that is its prompt."""
    bits = windows.shape[1] // 2 * network.config.bits_per_byte
    return bits // network.config.patch_size
