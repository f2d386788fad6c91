"""The log names work that takes long, and names it once."""

import logging
import time

from bit_transformer.waiting import waiting


def test_a_long_wait_is_logged_once_while_it_lasts(caplog):
    caplog.set_level(logging.INFO, logger="bit_transformer")
    with waiting("evaluating", patience=0.01):
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        assert caplog.messages == ["evaluating ..."]
    assert caplog.messages == ["evaluating ..."]


def test_a_short_wait_is_silent(caplog):
    caplog.set_level(logging.INFO, logger="bit_transformer")
    with waiting("evaluating", patience=0.2):
        pass
    time.sleep(0.4)
    assert not caplog.messages
