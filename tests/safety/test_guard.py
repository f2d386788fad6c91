"""Tests of generation under a gate, with a fake generator and with a model."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bit_transformer import SamplingConfig, bytes_to_bits
from bit_transformer.errors import ConfigError, GateError
from bit_transformer.inference.watch import Watch, WatchedStretch
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import GuardedStream, guarded_stream
from bit_transformer.safety.review import ReviewQueue
from bit_transformer.safety.sampling import (
    demo_hil_safety,
    hil_safe_inference,
    infer_text,
    safe_sample_with_retry,
)
from tests.builders import tiny_model
from tests.safety.conftest import metrics_around

BYTES = 4


def _fake(levels: list[float], asked: list[int] | None = None) -> Watch:
    """Return a fake generation of four-byte stretches whose C has the given levels.

    `asked` collects the index of each requested stretch.
    """

    def stretches() -> Iterator[WatchedStretch]:
        for index, level in enumerate(levels):
            if asked is not None:
                asked.append(index)
            bits = np.full(8 * BYTES, index % 2, np.uint8)
            metrics = metrics_around(index, length=BYTES, c=level)
            yield WatchedStretch(bits, np.full(8 * BYTES, 0.5), metrics, ())

    return Watch(metrics_around(99, length=20), stretches())


def test_good_output_passes_whole():
    guarded = GuardedStream(_fake([0.6] * 30), SafetyGate(), held_bits=64)
    parts = list(guarded)
    assert guarded.verdict.passed
    assert len(np.concatenate(parts)) == 30 * 8 * BYTES
    assert not len(guarded.withheld)


@pytest.mark.parametrize("held", [0, 64, 512, 10_000])
def test_a_bad_stretch_is_cut_before_it_is_output(held):
    onset, asked = 20, list[int]()
    watched = _fake([0.6] * onset + [0.0] * 30, asked)
    guarded = GuardedStream(watched, SafetyGate(), held_bits=held)
    released = sum(len(part) for part in guarded)
    detected = guarded.verdict.patch - 20 - BYTES * onset
    assert not guarded.verdict.passed
    assert 0 < detected < 16
    assert released <= 8 * BYTES * (onset + 4) - held + 8 * BYTES or released == 0
    if held >= 128:
        assert released <= 8 * BYTES * onset
    assert released + len(guarded.withheld) == 8 * BYTES * len(asked)


def test_bits_wait_only_as_long_as_necessary():
    guarded = iter(GuardedStream(_fake([0.6] * 30), SafetyGate(), held_bits=64))
    next(guarded)
    with pytest.raises(ConfigError):
        GuardedStream(_fake([]), SafetyGate(), held_bits=-1)


@pytest.fixture
def model():
    return tiny_model(max_seq_len=2048)


@pytest.fixture
def prompt():
    return torch.from_numpy(bytes_to_bits(b"A prompt that says a little."))[None]


NEVER, ALWAYS = SafetyGate(0.0, 0.0), SafetyGate(1.0, 1.0, burn_in=0)


def test_a_gate_that_never_refuses_changes_no_bit(model, prompt):
    generator = torch.Generator().manual_seed(3)
    expected = model.generate(prompt, 400, generator=generator)[0, prompt.shape[1] :]
    stream = guarded_stream(
        model.network, prompt, 400, SamplingConfig(), NEVER, torch.Generator().manual_seed(3)
    )
    assert np.array_equal(np.concatenate(list(stream)), expected.numpy())
    sample = safe_sample_with_retry(model, prompt, 400, gate=NEVER, seed=3)
    assert torch.equal(sample.bits[0, prompt.shape[1] :], expected)
    assert sample.complete


def test_refused_output_waits_for_a_human(model, prompt, tmp_path):
    queue = ReviewQueue(tmp_path)
    sample = safe_sample_with_retry(model, prompt, 400, gate=ALWAYS, attempts=2, queue=queue)
    assert not sample.complete
    assert len(sample.verdicts) == 2
    assert torch.equal(sample.bits, prompt)
    item = queue.show(sample.queued)
    assert len(item.output) > 0
    assert item.reasons
    with pytest.raises(GateError, match="in 1 attempts"):
        safe_sample_with_retry(model, prompt, 400, gate=ALWAYS, attempts=1, strict=True)
    with pytest.raises(ConfigError):
        safe_sample_with_retry(model, prompt, 400, attempts=0)


def test_sampling_continues_beyond_the_context(prompt):
    model = tiny_model(max_seq_len=256)
    sample = safe_sample_with_retry(model, prompt.repeat(1, 3), 400, gate=NEVER)
    assert sample.bits.shape[1] == 3 * prompt.shape[1] + 400


def test_inference_under_a_gate_returns_predictions_or_refuses(model, tmp_path):
    bits = torch.from_numpy(bytes_to_bits(b"tick tock " * 20))[None].expand(2, -1)
    predicted, telemetry = hil_safe_inference(model, bits, 0.0, 0.0)
    assert torch.equal(predicted, model(bits)[0].argmax(-1))
    assert telemetry["gate_passed"].tolist() == [True, True]
    assert telemetry["negentropy_input"].shape == (2,)
    queue = ReviewQueue(tmp_path)
    with pytest.raises(GateError, match="C, complexity"):
        hil_safe_inference(model, bits, 0.3, 0.0, queue=queue)
    _, telemetry = hil_safe_inference(model, bits, 0.3, 0.0, strict=False, queue=queue)
    assert telemetry["gate_passed"].tolist() == [False, False]
    assert len(queue.identities()) == 3


def test_text_is_continued_with_and_without_a_gate(model):
    free = infer_text(model, "abc", 20)
    assert len(free.encode()) == 20
    assert infer_text(model, "abc", 20, gate=ALWAYS) == ""


def test_the_demonstration_lets_a_paragraph_pass_and_stops_a_loop(capsys):
    demo_hil_safety()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a paragraph: passed"
    assert "a loop: the gate refused" in lines[1]
