"""Readings survive a crash, and become a picture."""

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
def test_a_line_cut_short_is_as_if_never_written(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    log = TelemetryLog(path)
    log.append(1, k=0.5)
    log.append(2, k=0.6)
    path.write_bytes(path.read_bytes()[:-cut])
    again = TelemetryLog(path)
    again.append(3, k=0.7)
    assert TelemetryLog(path).columns()["step"].tolist() == [1, 3]


def test_places_that_cannot_be_written_are_storage_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        TelemetryLog(tmp_path / "file" / "log").append(1, k=0.5)
    with pytest.raises(StorageError):
        plot_telemetry({"k": [1.0]}, tmp_path / "nowhere" / "x.png")


@pytest.mark.parametrize("length", [1, 50, 900])
def test_a_picture_is_drawn_of_any_readings(tmp_path, length):
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


def test_a_log_can_be_drawn_and_nothing_cannot(tmp_path):
    log = TelemetryLog(tmp_path / "log.jsonl")
    with pytest.raises(ConfigError, match="no readings"):
        plot_telemetry(log, tmp_path / "x.png")
    log.append(1, symbiosis_score=0.5)
    assert plot_telemetry(log, tmp_path / "x.png").exists()
