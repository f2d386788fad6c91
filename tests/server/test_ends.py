"""A server and a dashboard end cleanly on each signal."""

import os
import signal
import subprocess
import sys

import pytest


# The address is printed a moment before the server is ready. A signal may arrive in between.
@pytest.mark.parametrize(
    ("command", "number", "moment"),
    [
        ("serve", signal.SIGINT, 0.01),
        ("serve", signal.SIGHUP, 0.01),
        ("serve", signal.SIGTERM, 3),
        ("serve", signal.SIGHUP, 3),
        ("dashboard", signal.SIGTERM, 0.01),
        ("dashboard", signal.SIGHUP, 3),
    ],
)
def test_a_signal_ends_it_with_its_code_and_one_line(command, number, moment, tmp_path):
    # NiceGUI starts no server if it detects pytest in the environment.
    environment = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    words = [sys.executable, "-m", "bit_transformer", command, "--port", "0"]
    process = subprocess.Popen(
        [*words, "--runs", str(tmp_path / "runs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert errors.startswith("bit-transformer: ")
    assert errors.count("\n") == 1
