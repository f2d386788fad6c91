"""Telemetry logs survive a crash and can be plotted."""

import numpy as np
import pytest

from bit_transformer.errors import ConfigError, StorageError
from bit_transformer.telemetry.log import TelemetryLog
from bit_transformer.telemetry.plots import plot_telemetry


def test_a_log_is_read_back_as_it_was_written(tmp_path):
    log = TelemetryLog(tmp_path / "runs" / "log.jsonl")
    log.append(1, k=0.5)
    log.append(2, k=0.6, c=0.1)
    again = TelemetryLog(tmp_path / "runs" / "log.jsonl")
    assert len(again) == 2
    assert again.columns()["step"].tolist() == [1, 2]
    np.testing.assert_array_equal(again.columns()["c"], [np.nan, 0.1])


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_an_incomplete_last_line_is_ignored(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    log = TelemetryLog(path)
    log.append(1, k=0.5)
    log.append(2, k=0.6)
    path.write_bytes(path.read_bytes()[:-cut])
    again = TelemetryLog(path)
    again.append(3, k=0.7)
    assert TelemetryLog(path).columns()["step"].tolist() == [1, 3]


def test_reading_changes_nothing_on_disk(tmp_path):
    path = tmp_path / "log.jsonl"
    cut = '{"step": 1, "k": 0.1}\n{"step": 2, "k'
    path.write_text(cut)
    assert len(TelemetryLog(path)) == 1
    assert path.read_text() == cut


def test_rows_of_another_writer_are_kept(tmp_path):
    first, second = (TelemetryLog(tmp_path / "log.jsonl") for _ in range(2))
    first.append(1, k=0.5)
    second.append(2, k=0.6)
    first.append(3, k=0.7)
    assert TelemetryLog(tmp_path / "log.jsonl").columns()["step"].tolist() == [1, 2, 3]
    assert len(first) == 3


@pytest.mark.parametrize("line", ["", "  "])
def test_a_blank_line_hides_nothing(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    assert TelemetryLog(path).columns()["step"].tolist() == [1, 2]


@pytest.mark.parametrize("line", ["[1]", "no json", "\x00"])
def test_damage_before_the_end_is_an_error_and_stays(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(StorageError, match="line 2 of"):
        TelemetryLog(path)
    assert path.read_text().endswith('{"step": 2}\n')


def test_places_that_cannot_be_written_are_storage_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        TelemetryLog(tmp_path / "file" / "log").append(1, k=0.5)
    with pytest.raises(StorageError):
        plot_telemetry({"k": [1.0]}, tmp_path / "nowhere" / "x.png")


@pytest.mark.parametrize("length", [1, 50, 900])
def test_a_picture_is_drawn_of_any_metrics(tmp_path, length):
    values = np.random.default_rng(0).random(length).tolist()
    columns = {
        "step": list(range(length)),
        "k": values,
        "negentropy_input": values,
        "other": values,
    }
    path = plot_telemetry(columns, tmp_path / "x.png", floors={"k": 0.2, "f": 0.1})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def test_gaps_negative_values_and_floors_are_drawn(tmp_path):
    values = np.random.default_rng(0).standard_normal(900)
    values[::7] = np.nan
    columns = {"negentropy_logits": values.tolist(), "loss": (values - 3).tolist()}
    bare, floored = (
        plot_telemetry(columns, tmp_path / f"{len(floors)}.png", floors=floors).read_bytes()
        for floors in ({}, {"negentropy_logits": 0.2})
    )
    assert bare != floored
    with pytest.raises(ConfigError, match="no metrics"):
        plot_telemetry({"k": [float("nan")]}, tmp_path / "x.png")


def test_a_log_can_be_drawn_and_nothing_cannot(tmp_path):
    log = TelemetryLog(tmp_path / "log.jsonl")
    with pytest.raises(ConfigError, match="no metrics"):
        plot_telemetry(log, tmp_path / "x.png")
    log.append(1, symbiosis_score=0.5)
    assert plot_telemetry(log, tmp_path / "x.png").exists()
