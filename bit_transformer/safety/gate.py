"""A gate with a memory: smoothed readings, a burn-in, and floors that can be measured."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.checkpoint.format import read_manifest
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.errors import ConfigError
from bit_transformer.native.functions import compiled
from bit_transformer.safety.density import INPUTS, ReadingDensity
from bit_transformer.safety.policy import DOCUMENTED_FLOORS, Policy, Verdict
from bit_transformer.telemetry.stream import WINDOW_BITS, Readings

METADATA_KEY = "gate"
"""Where the metadata of a checkpoint holds the settings of its gate."""
DEFAULT_JUDGED = ("f",)
"""Readings that a calibrated gate has floors for; `benchmarks/bench_degeneration.py` says why."""
_CONFIDENCE = 0.95
_WIDEST_RATE = 0.1
"""A gate that may hold back more than this share of good output is not worth having."""
UNCALIBRATED = (
    "the documented floors of C and S are nearly blind: on the models that they were measured with "
    "they let pass all base64, all shuffled and all garbled source code; train with more held-out "
    "data for a calibrated gate"
)
"""What must be said wherever the documented floors stand in for a calibrated gate."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a gate's false-alarm rate rests on."""

    windows: int
    """Sequences of good data that were used, those that say what is familiar included."""
    asked: float
    """False-alarm rate that was asked for."""
    guaranteed: float
    """Rate that is not exceeded, with this confidence: few sequences cannot vouch for a low one."""
    confidence: float = _CONFIDENCE


class SafetyGate:
    """Judges exponential averages of a sequence's readings, one set after the other.

    One gate follows one sequence; `reset` makes it ready for the next one.
    """

    def __init__(
        self,
        c_floor: float = DOCUMENTED_FLOORS["c"],
        s_floor: float = DOCUMENTED_FLOORS["s"],
        decay: float = 0.9,
        burn_in: int = 10,
        *,
        floors: Mapping[str, float] | None = None,
        density: ReadingDensity | None = None,
        window_bits: int = WINDOW_BITS,
        calibration: Calibration | None = None,
    ) -> None:
        """`floors`, where given, are judged instead of `c_floor` and `s_floor`; a floor of `f`
        needs a `density`.

        `decay` is the weight of the past in the average, `burn_in` how many sets of readings are
        averaged before the first is judged, `window_bits` the trailing window that readings are of.
        `calibration` is told, not used.
        Raises `ConfigError` for values outside their limits.
        """
        if not 0 <= decay < 1:
            raise ConfigError(f"decay must be in [0, 1), got {decay}")
        if burn_in < 0:
            raise ConfigError(f"burn_in must be at least 0, got {burn_in}")
        self.policy = Policy({"c": c_floor, "s": s_floor} if floors is None else dict(floors))
        if "f" in self.policy.floors and density is None:
            raise ConfigError(
                "a floor of f needs the density of good readings; make the gate with "
                "SafetyGate.calibrate, or leave f out"
            )
        self.density, self.calibration = density, calibration
        self.decay, self.burn_in, self.window_bits = decay, burn_in, window_bits
        needed = {*self.policy.floors} - {"f"} | ({*density.inputs} if density else set())
        self._names = tuple(sorted(needed))
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._average: Float[np.ndarray, " names"] | None = None
        self.patches = 0
        """Sets of readings taken in since."""

    def update(self, readings: Mapping[str, float]) -> Verdict:
        """Take one set of readings into the average and judge it; a pass until the burn-in is over.

        Raises `ConfigError` when a reading that is judged is missing.
        """
        return self._judge(self._smooth(self._row(readings)[None]))

    def should_trigger(self, c: float, s: float) -> bool:
        """Whether these readings of C and S, after those before, are to be held back."""
        return not self.update({"c": c, "s": s}).passed

    def observe(self, readings: Readings) -> None:
        """Take the readings of a prompt into the average without judging them."""
        self._smooth(self._rows(readings))

    def follow(self, readings: Readings) -> Verdict:
        """Judge readings one after the other: the first verdict that fails, or the last one."""
        return self._judge(self._smooth(self._rows(readings)))

    def judge(self, readings: Readings, *, prompt_patches: int = 0) -> Verdict:
        """`follow` a whole sequence from a fresh start; its first readings are only observed."""
        self.reset()
        self.observe(readings.part(0, prompt_patches))
        return self.follow(readings.part(prompt_patches, len(readings)))

    def smoothed(
        self, readings: Readings, *, prompt_patches: int = 0
    ) -> Float[np.ndarray, "judged n"]:
        """The averages of each judged reading of a whole sequence, as `judge` meets them."""
        self.reset()
        averages = self._smooth(self._rows(readings))
        columns = self._columns(averages)
        first = max(prompt_patches, self.burn_in)
        return np.stack([columns[name][first:] for name in self.policy.floors])

    def _row(self, readings: Mapping[str, float]) -> Float[np.ndarray, " names"]:
        missing = [name for name in self._names if name not in readings]
        if missing:
            raise ConfigError(
                f"this gate judges {[*self.policy.floors]} and was not given {missing}; a gate for "
                "C and S alone is SafetyGate(c_floor, s_floor)"
            )
        return np.array([readings[name] for name in self._names])

    def _rows(self, readings: Readings) -> Float[np.ndarray, "n names"]:
        return np.stack([getattr(readings, name) for name in self._names], axis=1)

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
        """The first verdict that fails, or the last one."""
        if not len(averages):
            return Verdict(True, (), {}, self.patches, warming_up=True)
        columns = self._columns(averages)
        first = self.patches - len(averages) + 1
        # What is not above its floor, NaN included, is looked at one by one.
        doubtful = np.zeros(len(averages), np.bool_)
        for name, floor in self.policy.floors.items():
            doubtful |= ~(columns[name] >= floor)
        doubtful[: max(0, self.burn_in + 1 - first)] = False
        index = int(doubtful.argmax()) if doubtful.any() else len(averages) - 1
        readings = {name: float(column[index]) for name, column in columns.items()}
        patch = first + index
        if patch <= self.burn_in:
            return Verdict(True, (), readings, patch, warming_up=True)
        return dataclasses.replace(self.policy.decide(readings), patch=patch)

    @classmethod
    def calibrate(
        cls,
        sequences: Sequence[Readings],
        false_alarm_rate: float = 0.01,
        *,
        prompt_patches: int = 0,
        judged: Sequence[str] = DEFAULT_JUDGED,
        decay: float = 0.9,
        burn_in: int = 10,
        window_bits: int = WINDOW_BITS,
    ) -> "SafetyGate":
        """A gate that holds back that share of such sequences, by any of its floors.

        `sequences` are readings of good data. Half of them, drawn at random, say what is familiar
        where `f` is judged; the others set the floors. Every floor is the same quantile of the
        lowest smoothed readings, so that none takes more than its part of the false alarms. How
        many sequences that rests on, and what they can guarantee, `calibration` says.

        Raises `ConfigError` for a rate outside (0, 1), and for so few sequences that even a floor
        below all of them may hold back a tenth of good output: `fewest_windows` are needed.
        """
        if not 0 < false_alarm_rate < 1:
            raise ConfigError(f"false_alarm_rate must be in (0, 1), got {false_alarm_rate}")
        joint = "f" in judged
        # At random: documents of a kind often lie side by side, or take turns.
        order = np.random.default_rng(0).permutation(len(sequences))
        familiar, ranked = np.split(order, [len(order) // 2 if joint else 0])
        if len(sequences) < fewest_windows(judged):
            raise ConfigError(
                f"a gate needs at least {fewest_windows(judged)} sequences to be calibrated, got "
                f"{len(sequences)}: fewer cannot vouch that it holds back less than "
                f"{_WIDEST_RATE:.0%} of good output; give more data or shorter windows"
            )
        settings: dict[str, Any] = {
            "decay": decay,
            "burn_in": burn_in,
            "window_bits": window_bits,
        }
        density = None
        if joint:
            plain = cls(floors=dict.fromkeys(INPUTS, 0.0), **settings)
            good = [
                plain.smoothed(sequences[index], prompt_patches=prompt_patches).T
                for index in familiar
            ]
            density = ReadingDensity.fit(np.concatenate(good))
        gate = cls(floors=dict.fromkeys(judged, 0.0), density=density, **settings)
        lowest = [
            gate.smoothed(sequences[index], prompt_patches=prompt_patches).min(axis=1, initial=1.0)
            for index in ranked
        ]
        floors, rank = _joint_quantile(np.stack(lowest), false_alarm_rate)
        gate.policy = Policy(dict(zip(judged, map(float, floors), strict=True)))
        # Blocks cut away by one floor after the other; together they are no more than that.
        cut = min(len(lowest), len(judged) * (rank + 1))
        gate.calibration = Calibration(
            windows=len(sequences),
            asked=false_alarm_rate,
            guaranteed=round(_largest_rate(cut, len(lowest)), 6),
        )
        gate.reset()
        return gate

    def to_dict(self) -> dict[str, Any]:
        """The gate's settings as JSON-ready values, for the metadata of a checkpoint."""
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
        """The gate that `to_dict` described; `ConfigError` for settings outside their limits."""
        density, calibration = settings.get("density"), settings.get("calibration")
        try:
            made = {
                "density": None if density is None else ReadingDensity(density),
                "calibration": None if calibration is None else Calibration(**calibration),
            }
            return cls(**{**settings, **made})
        except TypeError as error:
            raise ConfigError(f"these are no settings of a gate: {error}") from error

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "SafetyGate | None":
        """The gate that was calibrated with the model of a run or checkpoint folder, if one was."""
        metadata = read_manifest(locate_checkpoint(folder))["metadata"]
        settings = metadata.get(METADATA_KEY)
        return None if settings is None else cls.from_dict(settings)


@compiled
def _trailing_averages(
    rows: np.ndarray, before: np.ndarray, decay: float, smoothed: np.ndarray
) -> None:
    """The exponential average after each row, `before` being the one before the first."""
    for name in range(rows.shape[1]):
        average = before[name]
        for index in range(len(rows)):
            average = decay * average + (1 - decay) * rows[index, name]
            smoothed[index, name] = average


def _joint_quantile(
    values: Float[np.ndarray, "sequences readings"], rate: float
) -> tuple[Float[np.ndarray, " readings"], int]:
    """The largest common quantile of the columns below which, in any column, at most that share of
    the rows falls; and its rank, counted from 0."""
    ranked = np.sort(values, axis=0)
    held = 0
    for rank in range(1, len(values)):
        if (values < ranked[rank]).any(axis=1).mean() > rate:
            break
        held = rank
    return np.asarray(ranked[held]), held


def fewest_windows(judged: Sequence[str] = DEFAULT_JUDGED) -> int:
    """Sequences without which no gate is calibrated; where `f` is judged half of them say what is
    familiar."""
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log(1 - _WIDEST_RATE)) * (1 + ("f" in judged))


def _largest_rate(rank: int, count: int) -> float:
    """The upper confidence bound of a share: of all readings, those below the lowest but `rank` - 1
    of `count`.

    That share has the distribution Beta(rank, count + 1 - rank) whatever the readings are (Wilks
    1941); it is below p with the probability that at least `rank` of `count` fall below p.
    """
    if rank >= count:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _chance_of_fewer(rank, count, middle) > 1 - _CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _chance_of_fewer(rank: int, count: int, share: float) -> float:
    """The probability that fewer than `rank` of `count` fall into that share."""
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(rank)
    )
    return math.fsum(map(math.exp, logs))
