"""Tests of `warm`, --mix and --given: a context mixer beside a model in every command that takes
one."""

import base64
import io
import json
from types import SimpleNamespace

import pytest
import torch

from bit_transformer.cli.main import main
from bit_transformer.compression import mixer_file
from bit_transformer.compression.contexts import BINARY, RICH_TEXT
from bit_transformer.compression.mixed_network import mixed
from bit_transformer.compression.mixer import Mixer
from bit_transformer.compression.mixer_file import load_mixer
from bit_transformer.lm import BitTransformerLM
from tests.builders import tiny_model

_TEXT = b"to be or not to be, that is the question; whether it is nobler\n" * 30


@pytest.fixture
def model(tmp_path):
    return tiny_model().save_pretrained(tmp_path / "model")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(_TEXT[:700])
    return path


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given.txt"
    path.write_bytes(_TEXT)
    return path


def _json(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _fails(capsys, words, code, message):
    assert main([*map(str, words)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line


def _warm(*words):
    assert main(["warm", *map(str, words), "--table-bits", "12"]) == 0


def test_a_score_names_what_is_static_and_what_is_adaptive(model, file, given, capsys):
    plain = _json(capsys, "score", model, file)
    mix = _json(capsys, "score", model, file, "--mix")
    warm = _json(capsys, "score", model, file, "--given", given)
    assert "adaptive_bits_per_byte" not in plain
    for report in (mix, warm):
        assert report.pop("adaptive_bits_per_byte") < report["bits_per_byte"]
        assert report.items() >= plain.items() - {("bits_per_byte", plain["bits_per_byte"])}
        assert report["bits_per_byte"] == pytest.approx(plain["bits_per_byte"])
    assert main(["score", str(model), str(file), "--mix"]) == 0
    static, adaptive = capsys.readouterr().out.splitlines()
    assert "bits per byte, static (the network alone), over 700 bytes of" in static
    assert "bits per byte, adaptive (network and context mixer, which learns" in adaptive


@pytest.mark.parametrize("part", ["head", "memory"])
def test_a_part_of_the_model_learns_while_it_reads(part, model, file, tmp_path, capsys):
    page = tmp_path / "page.html"
    plain = _json(capsys, "score", model, file)
    report = _json(capsys, "score", model, file, "--adapt", part)
    painted = _json(capsys, "score", model, file, "--adapt", part, "--html", page)
    assert report["bits_per_byte"] == pytest.approx(plain["bits_per_byte"])
    assert report["adaptive_bits_per_byte"] < 0.9 * report["bits_per_byte"]
    assert painted == report
    assert "adaptive (the network, whose head" in page.read_text()
    assert main(["score", str(model), str(file), "--adapt", part]) == 0
    _, adaptive = capsys.readouterr().out.splitlines()
    assert "bits per byte, adaptive (the network, whose head" in adaptive


def test_what_is_given_and_warmed_adds_up(model, file, given, tmp_path, capsys):
    def adaptive(*words):
        return _json(capsys, "score", model, file, *words)["adaptive_bits_per_byte"]

    cold, once = adaptive("--mix"), adaptive("--given", given)
    twice = adaptive("--given", given, "--given", given)
    _warm(model, given)
    capsys.readouterr()
    warm, more = adaptive("--mix"), adaptive("--given", given)
    assert max(twice, once, warm, more) < 0.5 * cold
    assert warm == pytest.approx(once, rel=0.05)
    assert more == pytest.approx(twice, rel=0.05)


def test_the_page_says_that_its_colours_are_adaptive(model, file, tmp_path, capsys):
    page = tmp_path / "page.html"
    report = _json(capsys, "score", model, file, "--mix", "--html", page)
    written = page.read_text()
    assert f"{report['adaptive_bits_per_byte']:.3f} bits per byte" in written
    assert "adaptive (network and context mixer" in written
    assert report["bits_per_byte"] > report["adaptive_bits_per_byte"]
    _json(capsys, "score", model, file, "--html", page)
    assert "static (the network alone)" in page.read_text()


def test_samples_are_those_of_the_library_and_do_not_depend_on_each_other(model, given, capsys):
    words = ["generate", model, "--prompt", "to be ", "--new-bytes", "30"]
    words += ["--temperature", "3", "--given", given]
    two = _json(capsys, *words, "--samples", "2")
    four = _json(capsys, *words, "--samples", "4")
    assert two["mix"] is True
    assert four["samples_base64"][:2] == two["samples_base64"]
    assert two["samples_base64"][0] != two["samples_base64"][1]
    assert two["samples"] != _json(capsys, *words[:-2], "--samples", "2")["samples"]


def test_raw_output_is_the_bytes_of_the_first_sample(model, given, capfdbinary):
    words = ["generate", str(model), "--new-bytes", "30", "--given", str(given)]
    assert main([*words, "--raw"]) == 0
    raw = capfdbinary.readouterr().out
    assert main([*words, "--json"]) == 0
    (sample,) = json.loads(capfdbinary.readouterr().out)["samples_base64"]
    assert base64.b64decode(sample) == raw


@pytest.mark.parametrize(
    "flags",
    [
        ["--watch"],
        ["--gate"],
        ["--gate", "--json"],
        ["--samples", "2"],
        ["--stop", "e"],
        ["--raw", "--valid-utf8", "--top-k", "9"],
    ],
)
def test_every_way_to_generate_takes_the_mixer(flags, model, given, capfdbinary):
    _warm(model, given)
    capfdbinary.readouterr()
    words = ["generate", str(model), "--prompt", "to be ", "--new-bytes", "20", "--mix", *flags]
    assert main(words) == 0
    printed = capfdbinary.readouterr().out
    assert printed
    assert (b"All figures are adaptive" in printed) == ("--watch" in flags)


def test_telemetry_along_a_file_is_that_of_the_mixture(model, file, given, capsys):
    words = ["telemetry", model, file, "--limit", "400"]
    plain, mix = _json(capsys, *words), _json(capsys, *words, "--given", given)
    assert (plain["mix"], mix["mix"]) == (False, True)
    surprisal = [report["readings"]["surprisal"]["last"] for report in (plain, mix)]
    assert surprisal[1] < 0.5 * surprisal[0]
    assert main([*map(str, words), "--mix"]) == 0
    assert capsys.readouterr().out.startswith("Metrics, adaptive (network and context mixer")
    _fails(capsys, ["telemetry", model, "--mix"], 2, "name FILE as well")


def test_the_gate_judges_the_mixture(model, given, capsys):
    plain, mix = (
        _json(capsys, "gate", model, given, "--limit", "4", *flags)
        for flags in ([], ["--given", given])
    )
    assert [row["mix"] for row in (*plain, *mix)] == [False, True]
    assert plain[0]["floors"] == mix[0]["floors"]
    assert main(["gate", str(model), str(given), "--mix", "--limit", "2"]) == 0
    assert "by metrics that are adaptive" in capsys.readouterr().out


def test_a_warmed_mixer_is_saved_beside_the_model(model, given, tmp_path, capsys):
    report = _json(capsys, "warm", model, given, given, "--table-bits", "12")
    path = model / "mixer.safetensors"
    assert report["mixer"] == str(path)
    assert report["learned_bytes"] == report["remembered_bytes"] == 2 * len(_TEXT)
    assert report["file_bytes"] == path.stat().st_size
    assert (report["table_bits"], report["contexts"]) == (12, "text")
    network = BitTransformerLM.from_pretrained(model).network
    expected = mixed(network, given=2 * _TEXT, table_bits=12).mixer
    assert (load_mixer(path).tables.weights == expected.tables.weights).all()
    other = tmp_path / "binary"
    other.write_bytes(bytes(range(256)) * 4)
    more = _json(capsys, "warm", model, other, "--append")
    assert more["learned_bytes"] == 1024
    assert more["remembered_bytes"] == 2 * len(_TEXT) + 1024
    assert load_mixer(path).profile == RICH_TEXT
    assert main(["warm", str(model), str(other), "--table-bits", "12"]) == 0
    assert "Learned 1,024 bytes" in capsys.readouterr().out
    assert load_mixer(path).profile == BINARY
    assert load_mixer(path).bits_read == 8 * 1024


def test_the_mixer_of_a_checkpoint_is_that_of_its_run(given, tmp_path):
    run = tmp_path / "run"
    checkpoint = tiny_model().save_pretrained(run / "checkpoints" / "step-00000001")
    _warm(checkpoint, given)
    assert (run / "mixer.safetensors").exists()
    assert not (checkpoint / "mixer.safetensors").exists()


def test_mistakes_are_one_line_and_change_nothing(model, file, given, tmp_path, capsys):
    both = ["score", model, file, "--mix", "--adapt", "head"]
    _fails(capsys, both, 2, "--adapt and --mix are two ways to learn while reading")
    empty = tmp_path / "empty"
    empty.touch()
    for words, code, message in [
        (["warm", model], 2, "warm needs FILE"),
        (["warm", "me/first", given], 2, "RUN must be a folder on this machine"),
        (["warm", tmp_path, given], 1, "holds no complete checkpoint"),
        (["warm", model, given, tmp_path / "gone"], 1, "gone"),
        (["warm", model, empty], 1, "0 bytes; there is nothing to learn"),
        (["warm", model, given, "--table-bits", "25"], 2, "table_bits must be in [10, 24], got 25"),
        (["warm", model, "-", "-"], 2, "can be read only once"),
        (["warm", model, given, "--memory-limit", "1MiB"], 1, "the limit is 1 MiB"),
        (["score", model, "-", "--given", "-"], 2, "can be read only once"),
        (["score", model, file, "--given", tmp_path / "gone"], 1, "gone"),
        (["score", model, empty, "--mix"], 1, "is empty"),
    ]:
        _fails(capsys, words, code, message)
        assert not (model / "mixer.safetensors").exists()
    _warm(model, given)
    capsys.readouterr()
    words = ["warm", model, given, "--append", "--table-bits", "13"]
    _fails(capsys, words, 2, "table_bits of the saved mixer is 12, got 13")


def test_a_damaged_mixer_is_named_and_only_where_it_is_used(model, file, given, capsys):
    _warm(model, given)
    path = model / "mixer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    _fails(capsys, ["score", model, file, "--mix"], 1, f"{path} has changed since")
    _fails(capsys, ["warm", model, given, "--append"], 1, "remove it, and make it again")
    assert main(["score", str(model), str(file)]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "--mix"],
        ["generate", "--watch", "--mix"],
        ["telemetry", "--mix"],
        ["score", "--mix"],
        ["score", "--adapt", "head"],
        ["score", "--adapt", "memory"],
    ],
    ids=" ".join,
)
def test_predictions_that_are_nan_are_one_error(words, file, tmp_path, capsys):
    overflowing = tiny_model()
    with torch.no_grad():
        for weight in overflowing.network.stack.parameters():
            weight.mul_(1e37)
    folder = overflowing.save_pretrained(tmp_path / "overflowing")
    command, *flags = words
    source = ["--prompt", "to be"] if command == "generate" else [file]
    _fails_after_output(capsys, [command, folder, *source, *flags])


def _fails_after_output(capsys, words):
    assert main([*map(str, words)]) == 1
    assert "NaN" in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_learn_until_they_are_nan_are_one_error(file, tmp_path, capsys):
    model = tiny_model()
    with torch.no_grad():
        model.network.head.nodes.fill_(1e30)
    folder = model.save_pretrained(tmp_path / "steep")
    assert main(["score", str(folder), str(file), "--adapt", "memory", "--json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "let only the head learn" in line


def test_a_stream_is_held_to_the_memory_limit(model, given, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(bytes(3 << 20))))
    words = ["warm", model, "-", "--table-bits", "10", "--memory-limit", "20MiB"]
    _fails(capsys, words, 1, "warming the mixer needs")
    assert not (model / "mixer.safetensors").exists()


def test_what_another_process_has_warmed_is_not_lost(model, given, capsys, monkeypatch):
    _warm(model, given)
    capsys.readouterr()
    load = mixer_file.load_mixer

    def loads_while_another_saves(path):
        mixer = load(path)
        mixer_file.save_mixer(path, mixer)
        return mixer

    monkeypatch.setattr(mixer_file, "load_mixer", loads_while_another_saves)
    before = load_mixer(model / "mixer.safetensors").bits_read
    _fails(capsys, ["warm", model, given, "--append"], 1, "by another process while this one")
    assert load(model / "mixer.safetensors").bits_read == before


def test_what_a_killed_process_has_left_is_removed(model, given, capsys):
    left = model / ".tmp-999999-0123abcd-mixer.safetensors"
    left.write_bytes(b"half a mixer")
    _warm(model, given)
    assert not left.exists()


def test_only_a_mixer_with_an_input_for_a_network_goes_on(model, given, capsys):
    mixer_file.save_mixer(
        model / "mixer.safetensors", Mixer(profile=BINARY, table_bits=12, network=False)
    )
    _fails(capsys, ["warm", model, given, "--append"], 1, "has no input for a network")


def test_the_parts_that_can_learn_are_named(model, file, capsys):
    _fails(capsys, ["score", model, file, "--adapt", "foo"], 2, "one of head, memory, got 'foo'")
