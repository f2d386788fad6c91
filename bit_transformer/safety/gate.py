"""The safety gate: smoothed metrics, a burn-in, and floors calibrated on good data."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.checkpoint.format import read_manifest
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.errors import ConfigError, require
from bit_transformer.native.functions import compiled
from bit_transformer.safety.density import INPUTS, MetricDensity
from bit_transformer.safety.policy import DOCUMENTED_FLOORS, Policy, Verdict
from bit_transformer.telemetry.stream import WINDOW_BITS, StreamMetrics

METADATA_KEY = "gate"
"""Key of the gate's settings in the metadata of a checkpoint."""
DEFAULT_JUDGED = ("f",)
"""Metrics that a calibrated gate has floors for; `benchmarks/bench_degeneration.py` says why."""
_CONFIDENCE = 0.95
_MAX_RATE = 0.1
"""Highest false-alarm rate that a calibration may guarantee. Worse gates are not built."""
UNCALIBRATED = (
    "the documented floors of C and S are nearly blind: in our measurements all base64, all "
    "shuffled and all garbled source code passed; train with more held-out data to get a "
    "calibrated gate"
)
"""The warning to show wherever the documented floors replace a calibrated gate."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The evidence for a gate's false-alarm rate."""

    windows: int
    """Number of sequences of good data, including those that the density was fitted to."""
    asked: float
    """The requested false-alarm rate."""
    guaranteed: float
    """Upper bound of the rate at this confidence. The fewer the sequences, the higher it is."""
    confidence: float = _CONFIDENCE


class SafetyGate:
    """Judges exponential averages of a sequence's metrics, patch by patch.

    A gate follows one sequence at a time; `reset` prepares it for the next.
    """

    def __init__(
        self,
        c_floor: float = DOCUMENTED_FLOORS["c"],
        s_floor: float = DOCUMENTED_FLOORS["s"],
        decay: float = 0.9,
        burn_in: int = 10,
        *,
        floors: Mapping[str, float] | None = None,
        density: MetricDensity | None = None,
        window_bits: int = WINDOW_BITS,
        calibration: Calibration | None = None,
    ) -> None:
        """`floors` replaces `c_floor` and `s_floor`. A floor of `f` needs a `density`.

        `decay` is the weight of the past in the averages. The first `burn_in` patches are averaged
        but not judged. `window_bits` is the length of the trailing window of the metrics.
        `calibration` is only recorded. Raises `ConfigError` for a value outside its limits.
        """
        require(0 <= decay < 1, "decay", decay, "in [0, 1)")
        require(burn_in >= 0, "burn_in", burn_in, "at least 0")
        self.policy = Policy({"c": c_floor, "s": s_floor} if floors is None else dict(floors))
        if "f" in self.policy.floors and density is None:
            raise ConfigError(
                "a floor of f needs the density of good metrics; use SafetyGate.calibrate or "
                "leave out f"
            )
        self.density, self.calibration = density, calibration
        self.decay, self.burn_in, self.window_bits = decay, burn_in, window_bits
        needed = {*self.policy.floors} - {"f"} | ({*density.inputs} if density else set())
        self._names = tuple(sorted(needed))
        self.reset()

    def reset(self) -> None:
        """Forget the current sequence."""
        self._average: Float[np.ndarray, " names"] | None = None
        self.patches = 0
        """Number of patches added since the last reset."""

    def update(self, metrics: Mapping[str, float]) -> Verdict:
        """Add the metrics of one patch and judge the averages. During the burn-in they pass.

        Raises `ConfigError` when a judged metric is missing.
        """
        return self._judge(self._smooth(self._row(metrics)[None]))

    def should_trigger(self, c: float, s: float) -> bool:
        """Add C and S of one patch and return whether the gate refuses."""
        return not self.update({"c": c, "s": s}).passed

    def observe(self, metrics: StreamMetrics) -> None:
        """Add the metrics of a prompt without judging them."""
        self._smooth(self._rows(metrics))

    def follow(self, metrics: StreamMetrics) -> Verdict:
        """Judge patches in order. Return the first verdict that fails, or the last one."""
        return self._judge(self._smooth(self._rows(metrics)))

    def judge(self, metrics: StreamMetrics, *, prompt_patches: int = 0) -> Verdict:
        """Reset the gate and judge a whole sequence, except for the patches of its prompt."""
        self.reset()
        self.observe(metrics.part(0, prompt_patches))
        return self.follow(metrics.part(prompt_patches, len(metrics)))

    def smoothed(
        self, metrics: StreamMetrics, *, prompt_patches: int = 0
    ) -> Float[np.ndarray, "judged n"]:
        """Return the averages that `judge` compares with the floors, one row per judged metric."""
        self.reset()
        averages = self._smooth(self._rows(metrics))
        columns = self._columns(averages)
        first = max(prompt_patches, self.burn_in)
        return np.stack([columns[name][first:] for name in self.policy.floors])

    def _row(self, metrics: Mapping[str, float]) -> Float[np.ndarray, " names"]:
        missing = [name for name in self._names if name not in metrics]
        if missing:
            raise ConfigError(
                f"this gate judges {[*self.policy.floors]}, but {missing} are missing; to judge "
                "only C and S use SafetyGate(c_floor, s_floor)"
            )
        return np.array([metrics[name] for name in self._names])

    def _rows(self, metrics: StreamMetrics) -> Float[np.ndarray, "n names"]:
        return np.stack([getattr(metrics, name) for name in self._names], axis=1)

    def _smooth(self, rows: Float[np.ndarray, "n names"]) -> Float[np.ndarray, "n names"]:
        smoothed = np.empty_like(rows)
        if len(rows):
            before = rows[0] if self._average is None else self._average
            _trailing_averages(rows, before, self.decay, smoothed)
            self._average = smoothed[-1]
        self.patches += len(rows)
        return smoothed

    def _columns(self, averages: Float[np.ndarray, "n names"]) -> dict[str, Any]:
        columns = dict(zip(self._names, averages.T, strict=True))
        if self.density is not None:
            rows = np.stack([columns[name] for name in self.density.inputs], axis=1)
            columns["f"] = self.density.familiarity(rows)
        return columns

    def _judge(self, averages: Float[np.ndarray, "n names"]) -> Verdict:
        """Return the first verdict that fails, or the last one."""
        if not len(averages):
            return Verdict(True, (), {}, self.patches, warming_up=True)
        columns = self._columns(averages)
        first = self.patches - len(averages) + 1
        # The negation also selects NaN, for which `decide` raises an error.
        doubtful = np.zeros(len(averages), np.bool_)
        for name, floor in self.policy.floors.items():
            doubtful |= ~(columns[name] >= floor)
        doubtful[: max(0, self.burn_in + 1 - first)] = False
        index = int(doubtful.argmax()) if doubtful.any() else len(averages) - 1
        metrics = {name: float(column[index]) for name, column in columns.items()}
        patch = first + index
        if patch <= self.burn_in:
            return Verdict(True, (), metrics, patch, warming_up=True)
        return dataclasses.replace(self.policy.decide(metrics), patch=patch)

    @classmethod
    def calibrate(
        cls,
        sequences: Sequence[StreamMetrics],
        false_alarm_rate: float = 0.01,
        *,
        prompt_patches: int = 0,
        judged: Sequence[str] = DEFAULT_JUDGED,
        decay: float = 0.9,
        burn_in: int = 10,
        window_bits: int = WINDOW_BITS,
    ) -> "SafetyGate":
        """Return a gate whose floors together refuse this share of good sequences.

        `sequences` holds the metrics of good data. If `f` is judged, the density is fitted to a
        random half of them, and the other half sets the floors. Every floor is the same quantile of
        each sequence's lowest smoothed metrics, so that all floors cause equally many false alarms.
        The gate's `calibration` states the number of sequences and the rate that they guarantee.

        Raises `ConfigError` for a rate outside (0, 1) and for fewer sequences than
        `fewest_windows`, which could not guarantee a false-alarm rate below 10 %.
        """
        require(0 < false_alarm_rate < 1, "false_alarm_rate", false_alarm_rate, "in (0, 1)")
        joint = "f" in judged
        # Random, because neighbouring or alternating documents are often of one kind.
        order = np.random.default_rng(0).permutation(len(sequences))
        fitted, ranked = np.split(order, [len(order) // 2 if joint else 0])
        if len(sequences) < fewest_windows(judged):
            raise ConfigError(
                f"calibrating a gate needs at least {fewest_windows(judged)} sequences, got "
                f"{len(sequences)}, which cannot guarantee a false-alarm rate below "
                f"{_MAX_RATE:.0%}; give more data or shorter windows"
            )
        settings: dict[str, Any] = {
            "decay": decay,
            "burn_in": burn_in,
            "window_bits": window_bits,
        }
        density = None
        if joint:
            unfloored = cls(floors=dict.fromkeys(INPUTS, 0.0), **settings)
            good = [
                unfloored.smoothed(sequences[index], prompt_patches=prompt_patches).T
                for index in fitted
            ]
            density = MetricDensity.fit(np.concatenate(good))
        gate = cls(floors=dict.fromkeys(judged, 0.0), density=density, **settings)
        lowest = [
            gate.smoothed(sequences[index], prompt_patches=prompt_patches).min(axis=1, initial=1.0)
            for index in ranked
        ]
        floors, rank = _joint_quantile(np.stack(lowest), false_alarm_rate)
        gate.policy = Policy(dict(zip(judged, map(float, floors), strict=True)))
        # Each floor cuts off at most rank + 1 of the blocks between the sorted sequences.
        cut = min(len(lowest), len(judged) * (rank + 1))
        gate.calibration = Calibration(
            windows=len(sequences),
            asked=false_alarm_rate,
            guaranteed=round(_largest_rate(cut, len(lowest)), 6),
        )
        gate.reset()
        return gate

    def to_dict(self) -> dict[str, Any]:
        """Return the gate's settings as JSON-ready values, for the metadata of a checkpoint."""
        return {
            "floors": dict(self.policy.floors),
            "decay": self.decay,
            "burn_in": self.burn_in,
            "window_bits": self.window_bits,
            "density": None if self.density is None else self.density.to_dict(),
            "calibration": (
                None if self.calibration is None else dataclasses.asdict(self.calibration)
            ),
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "SafetyGate":
        """Rebuild a gate from `to_dict`. Raises `ConfigError` for settings outside their limits."""
        density, calibration = settings.get("density"), settings.get("calibration")
        try:
            made = {
                "density": None if density is None else MetricDensity(density),
                "calibration": None if calibration is None else Calibration(**calibration),
            }
            return cls(**{**settings, **made})
        except TypeError as error:
            raise ConfigError(f"invalid settings of a gate: {error}") from error

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "SafetyGate | None":
        """Return the gate calibrated with the model of a run or checkpoint folder, or None."""
        metadata = read_manifest(locate_checkpoint(folder))["metadata"]
        settings = metadata.get(METADATA_KEY)
        return None if settings is None else cls.from_dict(settings)


@compiled
def _trailing_averages(
    rows: np.ndarray, before: np.ndarray, decay: float, smoothed: np.ndarray
) -> None:
    """Write the exponential average after each row to `smoothed`, starting from `before`."""
    for name in range(rows.shape[1]):
        average = before[name]
        for index in range(len(rows)):
            average = decay * average + (1 - decay) * rows[index, name]
            smoothed[index, name] = average


def _joint_quantile(
    values: Float[np.ndarray, "sequences metrics"], rate: float
) -> tuple[Float[np.ndarray, " metrics"], int]:
    """Return the highest common quantile of the columns such that at most this share of the rows is
    below it in any column, and its rank, counted from 0."""
    ranked = np.sort(values, axis=0)
    held = 0
    for rank in range(1, len(values)):
        if (values < ranked[rank]).any(axis=1).mean() > rate:
            break
        held = rank
    return np.asarray(ranked[held]), held


def fewest_windows(judged: Sequence[str] = DEFAULT_JUDGED) -> int:
    """Return the number of sequences that a calibration needs. With `f` it doubles, because the
    density takes half of them."""
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log(1 - _MAX_RATE)) * (1 + ("f" in judged))


def _largest_rate(rank: int, count: int) -> float:
    """Return the upper confidence bound of the share of a population that is below the `rank`-th
    lowest of `count` samples.

    This share has the distribution Beta(rank, count + 1 - rank) for any population (Wilks 1941). It
    is below p with the probability that at least `rank` of the `count` samples fall below p.
    """
    if rank >= count:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_below(rank, count, middle) > 1 - _CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _binomial_below(rank: int, count: int, share: float) -> float:
    """Return the binomial probability that fewer than `rank` of `count` trials succeed."""
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(rank)
    )
    return math.fsum(map(math.exp, logs))
