"""Small parts that many panels use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.words import duration, size


@contextmanager
def card(title: str = "", help: str = "") -> Iterator[ui.column]:
    """A card with a heading."""
    with ui.column().classes("bt-card") as made:
        if title:
            with ui.element("h2").classes("bt-title"):
                ui.label(title)
        if help:
            ui.label(help).classes("bt-help")
        yield made


@contextmanager
def folded(title: str) -> Iterator[None]:
    """A grid of fields that unfolds."""
    with ui.expansion(title).classes("w-full"), ui.element("div").classes("bt-grid q-pa-sm"):
        yield


def button(text: str, icon: str, action: Callable[..., Any], *, main: bool = False) -> ui.button:
    """A button that does something; the main one of its card stands out."""
    look = "unelevated" if main else "outline"
    return ui.button(text, icon=icon, on_click=action).props(f"no-caps {look}")


def empty(icon: str, text: str) -> None:
    """What is shown where there is nothing yet."""
    with ui.column().classes("bt-empty"):
        ui.icon(icon, size="2rem").props("aria-hidden=true")
        ui.label(text)


def chip(text: str, tone: str = "") -> ui.label:
    """A small label."""
    return ui.label(text).classes(f"bt-chip {tone}")


def progress_words(job: dict[str, Any]) -> str:
    """How far a job is and how long the rest takes."""
    if job["state"] == "queued":
        ahead = job["ahead"] or 0
        return "waits for its turn" + (f", {ahead} before it" if ahead else "")
    progress = job["progress"]
    if progress is None:
        return "begins"
    words = [amount(progress["done"], progress["total"], progress["unit"])]
    if progress["seconds_left"] is not None:
        words.append(f"{duration(progress['seconds_left'])} left")
    if job["cancel_requested"]:
        words.append("ends after what it is at")
    return ", ".join(words)


def amount(done: float, total: float | None, unit: str) -> str:
    """So much of so much."""
    if unit == "bytes":
        return size(done) + (f" of {size(total)}" if total else "")
    return f"{done:,.0f}" + (f" of {total:,.0f} {unit}" if total else f" {unit}")


def share(job: dict[str, Any]) -> float:
    """The part of a job that is done, in [0, 1]."""
    progress = job["progress"]
    if progress is None or not progress["total"]:
        return 0.0
    return min(1.0, float(progress["done"] / progress["total"]))
