"""Measure how well the gate, its metrics and known rivals tell degenerate output from good data.

    python benchmarks/bench_degeneration.py \\
        --data alice29.txt bible.txt tinyshakespeare.txt kennedy.xls

A model is trained on six tenths of six kinds of documents. Two tenths calibrate the gate. Windows
of the last two tenths (`degeneration.py` draws them from fixed seeds) and samples of the model are
judged. Every monitor gets the threshold that 1 % of the same clean calibration windows fall below.
The rivals are zlib's ratio (Whisper flags 2.4 and above), the model's mean log-probability
(Whisper: below -1.0 per token), both joined as in Whisper, and distinct-4.
"""

import argparse
import dataclasses
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from degeneration import (
    BODY,
    FAULTS,
    PROMPT,
    Documents,
    Window,
    clean_windows,
    degenerate_windows,
    documents,
)
from report import RESULTS, write_result

from bit_transformer import BitTransformerLM, SamplingConfig, TrainConfig, fit
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.inference.generate import generate_bits
from bit_transformer.inference.watch import byte_metrics
from bit_transformer.safety.density import INPUTS
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.telemetry.stream import StreamMetrics

RATE = 0.01
_TENTHS = (range(6), (6, 7), (8, 9))
"""Tenths of the documents to train on, to calibrate with and to judge."""
Scores = np.ndarray
"""One number per window. Lower means more degenerate."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """Windows, and the metrics of a model on each."""

    windows: list[Window]
    metrics: list[StreamMetrics]

    def of(self, fault: str) -> np.ndarray:
        """Mask of the windows with this fault."""
        return np.array([window.fault == fault for window in self.windows])


Monitor = Callable[[Judged], Scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="text and .xls files")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--each", type=int, default=200, help="windows per kind or fault")
    parser.add_argument(
        "--leave-one-out", action="store_true", help="also judge gates without one metric"
    )
    parser.add_argument("--model", type=Path, help="run folder of an earlier call")
    arguments = parser.parse_args()
    parts = [documents(arguments.data, tenths) for tenths in _TENTHS]
    model = _model(arguments, parts[0])
    clean = [clean_windows(parts[1], 5 * arguments.each, 11)]
    clean.append(clean_windows(parts[2], arguments.each, 12))
    calibration, test = (_judged(model, windows) for windows in clean)
    bad = _judged(model, degenerate_windows(parts[2], arguments.each, 13))
    samples = _judged(model, _samples(model, parts[2], arguments.each, 14))
    monitors = _monitors(calibration, leave_one_out=arguments.leave_one_out)
    rows, curves = [], {}
    for name, monitor in monitors.items():
        scores = {key: monitor(found) for key, found in (("test", test), ("bad", bad))}
        threshold = np.quantile(monitor(calibration), RATE)
        rows.append(_row(name, scores, threshold, bad, samples, monitor))
        curves[name] = (scores["test"], scores["bad"])
        print(rows[-1], flush=True)
    _draw(curves, RESULTS.parent.parent / "docs" / "degeneration-roc.png")
    gate = SafetyGate.calibrate(calibration.metrics, RATE, prompt_patches=PROMPT)
    faults = [*FAULTS]
    write_result(
        "degeneration",
        summary=_summary(gate, test, bad, len(calibration.windows)),
        columns=["monitor", "AUROC", "false alarms", "caught", *faults, *_SAMPLE_COLUMNS],
        rows=rows,
        details={
            "caught_by_kind": _by_kind(gate, bad),
            "documented_floors_pass": _documented(test),
        },
    )


def _model(arguments: argparse.Namespace, texts: Documents) -> BitTransformerLM:
    if arguments.model is not None:
        return BitTransformerLM.from_pretrained(arguments.model)
    folder = Path(tempfile.mkdtemp(prefix="degeneration-"))
    print(f"run folder: {folder}", flush=True)
    torch.manual_seed(0)
    model = BitTransformerLM(
        d_model=128,
        nhead=2,
        num_layers=6,
        dim_feedforward=512,
        max_seq_len=8 * (PROMPT + BODY),
        memory_dropout=0.5,
    )
    data = b"".join(b"".join(found) for found in texts.values())
    return fit(model, data, TrainConfig(steps=arguments.steps), out=folder, progress=False).model


def _judged(model: BitTransformerLM, windows: Sequence[Window]) -> Judged:
    rows = np.stack([np.frombuffer(window.data, np.uint8) for window in windows])
    return Judged(list(windows), byte_metrics(model.network, rows))


_SAMPLE_COLUMNS = ("samples passed", "hot samples caught", "looping samples caught")


def _samples(model: BitTransformerLM, texts: Documents, each: int, seed: int) -> list[Window]:
    """Samples of the model at temperatures 1 (good), 2.5 (too hot) and 0 (looping)."""
    windows = []
    for index, (fault, temperature) in enumerate(_TEMPERATURES.items()):
        prompts = clean_windows(texts, each // len(texts) + 1, seed + index)
        sources = np.stack([np.frombuffer(one.data[:PROMPT], np.uint8) for one in prompts])
        generator = torch.Generator().manual_seed(seed + index)
        for start in range(0, len(sources), 32):
            bits = torch.from_numpy(unpack_bytes(sources[start : start + 32]))
            sampling = SamplingConfig(temperature)
            made = generate_bits(model.network, bits, 8 * BODY, sampling, generator)
            for row, prompt in zip(
                np.packbits(made.numpy(), axis=1), prompts[start:], strict=False
            ):
                if fault != "looping sample" or _loops(row[-96:]):
                    onset = PROMPT if fault else PROMPT + BODY
                    windows.append(Window(prompt.kind, fault, row.tobytes(), onset))
    return windows


_TEMPERATURES: dict[str | None, float] = {None: 1.0, "hot sample": 2.5, "looping sample": 0.0}


def _loops(tail: np.ndarray) -> bool:
    """Whether the bytes repeat exactly with a period of at most 32."""
    return any((tail[period:] == tail[:-period]).all() for period in range(1, 33))


def _monitors(calibration: Judged, *, leave_one_out: bool) -> dict[str, Monitor]:
    """The gate, on request the gate without each metric, each metric alone, and the rivals."""

    def gate(*, without: str | None = None) -> Monitor:
        metrics = [_without(one, without) for one in calibration.metrics]
        made = SafetyGate.calibrate(metrics, RATE, prompt_patches=PROMPT)
        return lambda found: np.array(
            [_lowest(made, _without(one, without)) for one in found.metrics]
        )

    def single(name: str) -> Monitor:
        made = SafetyGate(floors={name: 0.0})
        return lambda found: np.array([_lowest(made, one) for one in found.metrics])

    monitors = {"gate": gate()}
    if leave_one_out:
        monitors |= {f"gate without {name.upper()}": gate(without=name) for name in INPUTS}
    monitors |= {f"{name.upper()} alone": single(name) for name in ("k", "c", "s", "t", "u")}
    monitors |= {"zlib ratio": _zlib, "mean log-probability": _log_probability}
    ranks = [np.sort(rival(calibration)) for rival in (_zlib, _log_probability)]

    def whisper(found: Judged) -> Scores:
        rivals = (_zlib, _log_probability)
        shares = [
            np.searchsorted(rank, rival(found)) for rank, rival in zip(ranks, rivals, strict=True)
        ]
        return np.minimum(*shares) / len(ranks[0])

    return monitors | {"zlib ratio or log-probability": whisper, "distinct-4": _distinct}


def _without(metrics: StreamMetrics, name: str | None) -> StreamMetrics:
    """Replace a metric by a constant, which carries no information."""
    if name is None:
        return metrics
    return dataclasses.replace(metrics, **{name: np.full(len(metrics), 0.5)})


def _lowest(gate: SafetyGate, metrics: StreamMetrics) -> float:
    return float(gate.smoothed(metrics, prompt_patches=PROMPT).min())


def _zlib(found: Judged) -> Scores:
    bodies = [window.data[PROMPT:] for window in found.windows]
    return np.array([len(zlib.compress(body)) / len(body) for body in bodies])


def _log_probability(found: Judged) -> Scores:
    return np.array([-one.surprisal[PROMPT:].mean() for one in found.metrics])


def _distinct(found: Judged) -> Scores:
    bodies = [window.data[PROMPT:] for window in found.windows]
    return np.array(
        [len({body[i : i + 4] for i in range(len(body) - 3)}) / len(body) for body in bodies]
    )


def _row(
    name: str,
    scores: dict[str, Scores],
    threshold: float,
    bad: Judged,
    samples: Judged,
    monitor: Monitor,
) -> list[object]:
    caught = scores["bad"] < threshold
    of_samples = monitor(samples) < threshold
    clean = np.array([window.fault is None for window in samples.windows])
    return [
        name,
        _auroc(scores["test"], scores["bad"]),
        float((scores["test"] < threshold).mean()),
        float(caught.mean()),
        *(float(caught[bad.of(fault)].mean()) for fault in FAULTS),
        float(1 - of_samples[clean].mean()),
        float(of_samples[samples.of("hot sample")].mean()),
        float(of_samples[samples.of("looping sample")].mean()),
    ]


def _auroc(clean: Scores, bad: Scores) -> float:
    """Probability that a degenerate window scores below a clean one. Ties count half."""
    ranked = np.sort(clean)
    above = len(clean) - np.searchsorted(ranked, bad, side="right")
    ties = np.searchsorted(ranked, bad, side="right") - np.searchsorted(ranked, bad, side="left")
    return float((above + ties / 2).mean() / len(clean))


def _delays(gate: SafetyGate, bad: Judged) -> list[int]:
    """Bytes from the onset to the verdict, for windows that are caught after their onset."""
    delays = []
    for window, metrics in zip(bad.windows, bad.metrics, strict=True):
        verdict = gate.judge(metrics, prompt_patches=PROMPT)
        if not verdict.passed and verdict.patch > window.onset:
            delays.append(verdict.patch - window.onset)
    return delays


def _by_kind(gate: SafetyGate, bad: Judged) -> dict[str, dict[str, float]]:
    """Share of windows caught, by fault and kind of document."""
    found: dict[str, dict[str, list[bool]]] = {}
    for window, metrics in zip(bad.windows, bad.metrics, strict=True):
        caught = not gate.judge(metrics, prompt_patches=PROMPT).passed
        found.setdefault(str(window.fault), {}).setdefault(window.kind, []).append(caught)
    return {
        fault: {kind: float(np.mean(values)) for kind, values in kinds.items()}
        for fault, kinds in found.items()
    }


def _documented(test: Judged) -> dict[str, float]:
    """Share of clean windows that pass the documented floors, C 0.3 and S 0.5."""
    gates = {"both": SafetyGate()}
    gates |= {name: SafetyGate(floors={name: floor}) for name, floor in (("c", 0.3), ("s", 0.5))}
    return {
        name: float(
            np.mean([gate.judge(one, prompt_patches=PROMPT).passed for one in test.metrics])
        )
        for name, gate in gates.items()
    }


def _summary(gate: SafetyGate, test: Judged, bad: Judged, calibrated: int) -> str:
    delays = _delays(gate, bad)
    return (
        f"{len(test.windows)} clean and {len(bad.windows)} degenerate windows of {PROMPT} bytes of "
        f"prompt and {BODY} bytes after it. Thresholds for {RATE:.0%} false alarms from "
        f"{calibrated} other clean windows. Median delay of the gate from onset to detection: "
        f"{np.median(delays):.0f} bytes (nine in ten within {np.quantile(delays, 0.9):.0f})."
    )


_SHOWN = (
    "gate",
    "zlib ratio or log-probability",
    "zlib ratio",
    "mean log-probability",
    "distinct-4",
)


def _draw(curves: dict[str, tuple[Scores, Scores]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name in _SHOWN:
        clean, bad = curves[name]
        thresholds = np.unique(np.concatenate((clean, bad)))
        false = [float((clean <= one).mean()) for one in thresholds]
        true = [float((bad <= one).mean()) for one in thresholds]
        label = f"{name}: {_auroc(clean, bad):.3f}"
        axes.plot(false, true, label=label, linewidth=2.4 if name == "gate" else 1.2)
    axes.axvline(RATE, color="#2b2b2b", linewidth=0.8, linestyle=":")
    axes.set(xscale="symlog", xlim=(0, 1), ylim=(0, 1.005))
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlabel("clean windows held back (linear below 1 %)")
    axes.set_ylabel("degenerate windows caught")
    axes.set_title("Area under the ROC curve", loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
