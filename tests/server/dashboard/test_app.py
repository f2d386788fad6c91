"""Tests of the addresses that the dashboard may use."""

import socket

import pytest

from bit_transformer.cli.main import main


def test_a_public_address_requires_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIT_TRANSFORMER_PASSWORD", raising=False)
    assert main(["dashboard", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "0.0.0.0 can be reached by others: give a password" in capsys.readouterr().err


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["dashboard", "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_server_address_is_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--server", "ftp://x"]) == 2
    assert "must begin with http://" in capsys.readouterr().err
