"""Every documented name of the earlier system that this package has is tested once."""

import numpy as np
import pytest
import torch

import bit_transformer
from bit_transformer import (
    BitTransformerLM,
    MetricDriftWarning,
    SafetyGate,
    TelemetryLog,
    TelemetrySynthesizer,
    TrainConfig,
    adjust_learning_rate,
    bits_to_text,
    compress_bits,
    configure_optimizer,
    convert_qat_fx,
    cosine_ramp,
    decompress_bits,
    demo_hil_safety,
    detect_metric_drift,
    download_checkpoint,
    enforce_parity,
    fit,
    hf_checkpoint,
    hf_login,
    hil_safe_inference,
    infer_long_sequence,
    infer_text,
    model_output_decompress,
    pack_bits,
    plot_telemetry,
    prepare_qat_fx,
    quantize_dynamic,
    safe_sample_with_retry,
    save_checkpoint,
    text_to_bits,
    unpack_bits,
)
from bit_transformer.torch_utils import cpu_autocast
from bit_transformer.training.run_folder import RunFolder
from bit_transformer.utils import load_model, save_model, set_dropout
from tests.hub.fake_hub import GOOD_TOKEN
from tests.hub.fixtures import away, hub, serving  # noqa: F401 (fixtures)

SIZES = {"d_model": 32, "nhead": 4, "num_layers": 2, "dim_feedforward": 64, "max_seq_len": 256}


def test_the_model_returns_logits_and_telemetry():
    model = BitTransformerLM(**SIZES)
    logits, telemetry = model(torch.randint(0, 2, (2, 64)))
    assert logits.shape == (2, 64, 2)
    documented = {
        "negentropy_input",
        "lz_complexity_input",
        "negentropy_logits",
        "lz_complexity_logits",
        "symbiosis_kl",
        "symbiosis_score",
        "attention_entropy",
        "attention_entropy_mean",
        "halt_probs",
    }
    assert documented <= telemetry.keys()
    assert telemetry["negentropy_logits"].abs().max() < 1e-6
    logging = BitTransformerLM(**SIZES, full_attn_logging=True, log_activations=True)
    assert {"activations", "attention_maps"} <= logging(torch.zeros(1, 8).long())[1].keys()


def test_the_model_is_trained_with_its_penalties(tmp_path):
    model = BitTransformerLM(**SIZES, lambda_K=0.1, lambda_C=0.2, lambda_S=0.3)
    train = TrainConfig(steps=1, batch_size=1, device="cpu")
    fit(model, bytes(range(256)) * 8, train, out=tmp_path / "run", progress=False)
    saved = RunFolder(tmp_path / "run").config().objective
    assert (saved.lambda_k, saved.lambda_c, saved.lambda_s) == (0.1, 0.2, 0.3)


def test_every_documented_argument_of_the_model_is_taken():
    bits = torch.randint(0, 2, (2, 64))
    chunked = BitTransformerLM(
        **SIZES,
        use_act=True,
        act_threshold=0.8,
        use_checkpoint=True,
        use_autocast=True,
        chunk_size=32,
        overlap=16,
    )
    assert chunked(bits)[1]["halt_probs"].shape == (2, 9, 2)
    assert chunked(bits, causal=False)[0].shape == (2, 64, 2)
    reversible = BitTransformerLM(**SIZES, reversible=True)
    reversible.log2_likelihood(bits).sum().backward()
    assert reversible.network.head.nodes.grad is not None


def test_sequences_longer_than_the_context():
    model = BitTransformerLM(**SIZES)
    predicted, telemetry = infer_long_sequence(model, [0, 1] * 500, ctx_bits=128, overlap_bits=64)
    assert predicted.shape == (1000,)
    assert len(telemetry) == 15


def test_weights_of_8_and_4_bits():
    model = BitTransformerLM(**SIZES)
    bits = torch.randint(0, 2, (1, 64))
    for smaller in (quantize_dynamic(model), convert_qat_fx(prepare_qat_fx(model))):
        assert smaller(bits)[0].shape == (1, 64, 2)


def test_text_is_nine_bits_per_byte():
    bits = text_to_bits("hé")
    assert len(bits) == 27
    assert bits_to_text(bits) == "hé"
    assert len(text_to_bits("hé", parity=False)) == 24
    bits[8] ^= 1
    fixed, corrected = enforce_parity(bits)
    assert corrected == 1
    assert bits_to_text(fixed) == "hé"


def test_bits_are_packed_and_run_length_coded():
    bits = np.array([1] * 300 + [0] * 7, dtype=np.uint8)
    stream = compress_bits(bits)
    assert stream.tolist() == [1, 255, 1, 45, 0, 7]
    assert np.array_equal(decompress_bits(stream), bits)
    assert np.array_equal(model_output_decompress([stream])[0], bits)
    assert np.array_equal(unpack_bits(pack_bits(bits), len(bits)), bits)


def test_run_length_streams_are_read_as_their_bits():
    model = BitTransformerLM(**SIZES)
    bits = torch.randint(0, 2, (2, 64))
    streams = [compress_bits(row.numpy().astype(np.uint8)) for row in bits]
    logits, telemetry = model.forward_compressed(streams)
    assert torch.equal(logits, model(bits)[0])
    assert torch.equal(telemetry["negentropy_input"], model(bits)[1]["negentropy_input"])


def test_training_helpers():
    optimizer, schedule = configure_optimizer(
        BitTransformerLM(**SIZES), lr=1e-3, weight_decay=0.01, total_steps=100
    )
    assert 0 < schedule(0) < 1
    assert adjust_learning_rate(optimizer, 0.5) == pytest.approx(5e-4)
    assert cosine_ramp(50, 0.0, 1.0, 100) == pytest.approx(0.5)


def test_shims(tmp_path):
    model = BitTransformerLM(**SIZES)
    set_dropout(model, 0.1)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    bits = torch.randint(0, 2, (1, 32))
    assert torch.equal(loaded(bits)[0], model.eval()(bits)[0])
    with cpu_autocast():
        assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == torch.bfloat16


def test_the_gate_and_its_helpers(capsys):
    gate = SafetyGate(c_floor=0.3, s_floor=0.5, decay=0.9, burn_in=10)
    assert not gate.should_trigger(0.0, 0.0)
    model = BitTransformerLM(**SIZES)
    bits = torch.randint(0, 2, (1, 64))
    predicted, telemetry = hil_safe_inference(
        model, bits, 0.3, 0.5, causal=True, strict=True, gate=gate
    )
    assert predicted.shape == bits.shape
    assert telemetry["gate_passed"].all()
    assert safe_sample_with_retry(model, bits, 64).bits.shape == (1, 128)
    assert isinstance(infer_text(model, "hi", 8), str)
    demo_hil_safety()
    assert "a loop: the gate refused" in capsys.readouterr().out


def test_telemetry_helpers(tmp_path):
    model = BitTransformerLM(**SIZES, log_activations=True)
    bits = torch.randint(0, 2, (6, 64))
    synthesis = TelemetrySynthesizer(n_clusters=2).synthesize([model(bits)[1]], bits.tolist())
    assert len(synthesis["cluster_assignments"]) == 6
    assert len(synthesis["representatives"]) == 2
    with pytest.warns(MetricDriftWarning):
        found = detect_metric_drift({"k": [0.1, 0.2] * 150 + [5.0, 5.1] * 20})
    assert found["k"]
    log = TelemetryLog(tmp_path / "log.jsonl")
    log.append(1, negentropy_logits=0.5)
    assert plot_telemetry(log, tmp_path / "x.png").exists()


def test_a_model_is_uploaded_and_downloaded(hub, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("HF_TOKEN")
    assert hf_checkpoint.save_checkpoint is save_checkpoint
    assert hf_checkpoint.download_checkpoint is download_checkpoint
    assert hf_checkpoint.hf_login is hf_login
    assert download_checkpoint(tmp_path / "none", repo_id="user/net") is None
    assert hf_login(token=GOOD_TOKEN) == "user"
    model = BitTransformerLM(**SIZES).eval()
    save_checkpoint(model, repo_id="user/net")
    folder = download_checkpoint(tmp_path / "out", repo_id="user/net")
    bits = torch.randint(0, 2, (1, 32))
    assert torch.equal(BitTransformerLM.from_pretrained(folder)(bits)[0], model(bits)[0])
    assert torch.equal(BitTransformerLM.from_pretrained("user/net")(bits)[0], model(bits)[0])


def test_every_public_name_exists():
    assert all(hasattr(bit_transformer, name) for name in bit_transformer.__all__)
