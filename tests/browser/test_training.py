"""Tests of trainings in the dashboard. Every documented switch changes the run."""

import json
from typing import Any

import torch

from bit_transformer.server.dashboard.formatting import DASH
from bit_transformer.training.config import RunConfig
from tests.browser.conftest import TINY, Open, World, fill, shown, tab, until

TINY_RUN = {
    "tab": "new",
    "forms": {
        "train": {f"model.{name}": value for name, value in TINY.items()}
        | {"data.sources": ["text"], "train.batch_size": 4, "evaluation.telemetry_every": 2}
    },
}
"""Stored preferences with the settings of a tiny run on the uploaded text."""


def config_of(world: World, name: str) -> dict[str, Any]:
    """Return the settings that a run was started with."""
    path = world.runs / name / "config.json"
    until(path.exists)
    settings: dict[str, Any] = json.loads(path.read_text())
    return settings


def changed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, without the sizes of the model."""
    defaults = RunConfig().to_dict()
    return {
        f"{section}.{name}": value
        for section, fields in settings.items()
        for name, value in fields.items()
        if value != defaults[section][name] and name not in TINY and name != "sources"
    }


def kpi(page: Any, name: str) -> str:
    """Return a number of the selected run."""
    box = page.locator(".bt-kpi", has=page.get_by_text(name, exact=True))
    return str(box.locator(".bt-kpi-value").inner_text())


def step_of(page: Any) -> int:
    """Return the step that the page shows."""
    return int(kpi(page, "Step").partition("/")[0].replace(DASH, "0"))


def chart(page: Any, name: str) -> tuple[str, str]:
    """Return the description and the picture of a chart."""
    found = page.locator(f'[role=img][aria-label^="{name}"]').first
    return found.get_attribute("aria-label"), found.locator("canvas").first.evaluate(
        "c => c.toDataURL()"
    )


def test_train_watch_reload_cancel(open_page: Open, world: World) -> None:
    page = open_page(stored=TINY_RUN)
    fill(page, "Run", "long")
    fill(page, "Steps", "1000000")
    assert shown(page).get_by_label("Batch size").input_value() == "4"
    page.get_by_role("button", name="Start training").click()
    page.get_by_role("heading", name="long", exact=True).wait_for()
    until(lambda: step_of(page) >= 10)
    before = {name: chart(page, name) for name in ("Loss", "K", "C", "S")}
    words = page.locator(".bt-job").inner_text()
    assert "Train: long" in words
    until(lambda: " left" in page.locator(".bt-job").inner_text())
    at = step_of(page)
    until(lambda: step_of(page) >= at + 4)
    for name, old in before.items():
        until(lambda name=name, old=old: not set(chart(page, name)) & set(old))
    page.reload()
    page.get_by_role("heading", name="long", exact=True).wait_for()
    until(lambda: step_of(page) > at)
    again = step_of(page)
    until(lambda: step_of(page) > again)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("Train: long was cancelled").wait_for()
    assert list((world.runs / "long" / "checkpoints").glob("step-*"))
    page.get_by_role("button", name="Continue training").wait_for()


def test_switches_change_the_run(open_page: Open, world: World) -> None:
    page = open_page(stored=TINY_RUN)
    fill(page, "Run", "switched")
    fill(page, "Steps", "2")
    for switch in ("Reversible", "4-bit QAT"):
        page.get_by_role("switch", name=switch).click()
    wanted = {"Chunk size": "128", "Overlap": "64", "Lambda K": "0.1", "Lambda C": "0.2"}
    wanted |= {"Lambda S": "0.3", "Floor K": "0.45", "Floor C": "0.25", "Floor S": "0.35"}
    for label, value in wanted.items():
        fill(page, label, value)
    page.get_by_role("button", name="Start training").click()
    found = changed(config_of(world, "switched"))
    assert found == {
        "train.steps": 2,
        "train.batch_size": 4,
        "model.reversible": True,
        "evaluation.telemetry_every": 2,
        "train.qat": True,
        "model.chunk_size": 128,
        "model.overlap": 64,
        "objective.lambda_k": 0.1,
        "objective.lambda_c": 0.2,
        "objective.lambda_s": 0.3,
        "objective.floor_k": 0.45,
        "objective.floor_c": 0.25,
        "objective.floor_s": 0.35,
    }
    page.get_by_text("Train: switched is done").wait_for()
    tab(page, "Train")
    has_gpu = torch.cuda.is_available()
    assert shown(page).get_by_label("Device", exact=True).is_visible() == has_gpu


def test_act_and_what_excludes_it(open_page: Open, world: World) -> None:
    page = open_page(stored=TINY_RUN)
    fill(page, "Run", "halting")
    page.get_by_role("switch", name="Checkpointing").click()
    page.get_by_role("switch", name="Adaptive computation (ACT)").click()
    fill(page, "ACT threshold", "0.7")
    page.get_by_role("switch", name="Reversible").click()
    page.get_by_role("alert").get_by_text("use_act and reversible exclude each other").wait_for()
    page.get_by_role("switch", name="Reversible").click()
    page.get_by_role("button", name="Create untrained model").click()
    found = changed(config_of(world, "halting"))
    assert found["model.use_act"] is True
    assert found["parallel.use_checkpoint"] is True
    assert found["model.act_threshold"] == 0.7
    assert "model.reversible" not in found


def test_bounds_are_shown_at_the_field(open_page: Open, world: World) -> None:
    page = open_page(stored={"tab": "new"})
    fill(page, "Steps", "0")
    page.get_by_text("steps must be at least 1, got 0").wait_for()
    page.get_by_role("button", name="Start training").click()
    fill(page, "Steps", "3")
    fill(page, "Run", "one")
    page.get_by_role("button", name="Start training").click()
    page.get_by_text("'one' is taken").wait_for()
    assert shown(page).get_by_label("Run", exact=True).input_value() == "one"
