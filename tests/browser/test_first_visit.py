"""On a first visit, charts are drawn even if their code arrives late."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import World, new_context, tab, until

POINTS = """() => [...document.querySelectorAll('.bt-charts [role=img]')].map(
e => getElement(Number(e.id.slice(1))).chart).map(
c => c ? c.getOption().series.reduce((sum, one) => sum + one.data.length, 0) : 0)"""
"""Number of points that each chart has drawn."""


def late(seconds: float) -> Callable[[Any], None]:
    """Return a handler that delays a request."""

    def delay(route: Any) -> None:
        time.sleep(seconds)
        route.continue_()

    return delay


def all_drawn(page: Any) -> bool:
    """Return whether all four charts show a line."""
    drawn = page.evaluate(POINTS)
    return len(drawn) == 4 and all(drawn)


@pytest.mark.parametrize("seconds", [0, 3])
def test_charts_are_drawn_however_late_their_code_comes(
    world: World, browser: Any, tmp_path: Path, seconds: float
) -> None:
    context = new_context(browser)
    page = context.new_page()
    page.route(re.compile("echart"), late(seconds))
    page.goto(world.url)
    page.locator(".bt-kpi-value", has_text="12/").wait_for()
    until(lambda: page.locator(".bt-charts canvas").count() == 4)
    until(lambda: all_drawn(page), 10)
    context.close()


def test_charts_of_a_tab_that_is_opened_later_are_drawn(world: World, browser: Any) -> None:
    context = new_context(browser)
    setting = """localStorage.setItem("bit-transformer-dashboard", '{"tab":"files"}')"""
    context.add_init_script(f"if (!localStorage.length) {setting}")
    page = context.new_page()
    page.goto(world.url)
    page.get_by_text("connected, ").wait_for()
    # Meanwhile the run is drawn in a tab that is not visible.
    time.sleep(3)
    tab(page, "Runs")
    until(lambda: all_drawn(page), 10)
    other = context.new_page()
    other.goto(world.url)
    tab(other, "Runs")
    until(lambda: all_drawn(other), 10)
    context.close()


def test_charts_are_complete_after_a_lost_connection(world: World, browser: Any) -> None:
    context = new_context(browser)
    page = context.new_page()
    page.goto(world.url)
    until(lambda: all_drawn(page))
    page.evaluate("window.socket.io.engine.close()")
    until(lambda: page.evaluate("window.socket.connected"))
    page.get_by_role("button", name="Switch between light and dark").click()
    until(lambda: "body--dark" in (page.locator("body").get_attribute("class") or ""))
    until(lambda: all_drawn(page), 10)
    context.close()
