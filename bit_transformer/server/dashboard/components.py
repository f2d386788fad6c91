"""Small elements that several panels use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.formatting import duration, size


@contextmanager
def card(title: str = "", help: str = "") -> Iterator[ui.column]:
    """Draw a card with a heading; elements of the `with` block go into it."""
    with ui.column().classes("bt-card") as made:
        if title:
            with ui.element("h2").classes("bt-title"):
                ui.label(title)
        if help:
            ui.label(help).classes("bt-help")
        yield made


@contextmanager
def collapsed(title: str) -> Iterator[None]:
    """Draw a collapsed section; elements of the `with` block go into its grid."""
    with ui.expansion(title).classes("w-full"), ui.element("div").classes("bt-grid q-pa-sm"):
        yield


def button(text: str, icon: str, action: Callable[..., Any], *, main: bool = False) -> ui.button:
    """Draw a button. The main button of a card is filled, the others are outlined."""
    look = "unelevated" if main else "outline"
    return ui.button(text, icon=icon, on_click=action).props(f"no-caps {look}")


def empty(icon: str, text: str) -> None:
    """Draw the placeholder of an empty list."""
    with ui.column().classes("bt-empty"):
        ui.icon(icon, size="2rem").props("aria-hidden=true")
        ui.label(text)


def chip(text: str, tone: str = "") -> ui.label:
    """Draw a small rounded label."""
    return ui.label(text).classes(f"bt-chip {tone}")


def progress_text(job: dict[str, Any]) -> str:
    """Return the progress of a job and the estimated time left, as text."""
    if job["state"] == "queued":
        ahead = job["ahead"] or 0
        return "waiting" + (f" for {ahead} other {'jobs' if ahead > 1 else 'job'}" if ahead else "")
    progress = job["progress"]
    if progress is None:
        return "starting"
    parts = [amount(progress["done"], progress["total"], progress["unit"])]
    if progress["seconds_left"] is not None:
        parts.append(f"{duration(progress['seconds_left'])} left")
    if job["cancel_requested"]:
        parts.append("stopping after the current step")
    return ", ".join(parts)


def amount(done: float, total: float | None, unit: str) -> str:
    """Return done and total amounts as text, such as "3 of 10 steps"."""
    if unit == "bytes":
        return size(done) + (f" of {size(total)}" if total else "")
    return f"{done:,.0f}" + (f" of {total:,.0f} {unit}" if total else f" {unit}")


def done_fraction(job: dict[str, Any]) -> float:
    """Return the completed fraction of a job, in [0, 1]."""
    progress = job["progress"]
    if progress is None or not progress["total"]:
        return 0.0
    return min(1.0, float(progress["done"] / progress["total"]))
