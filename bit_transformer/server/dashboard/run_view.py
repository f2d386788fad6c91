"""One run: how far it is, how good, its charts, samples and settings, and what to do with it."""

from typing import Any

from nicegui import background_tasks, ui

from bit_transformer.server.dashboard.charts import Charts
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.history import History, latest
from bit_transformer.server.dashboard.pieces import button, card, chip, empty
from bit_transformer.server.dashboard.run_facts import draw_settings, floors_of, notable
from bit_transformer.server.dashboard.run_feed import RunFeed
from bit_transformer.server.dashboard.words import DASH, duration, number, size

_EVERY = 0.4
"""Seconds between pictures: 2.5 a second."""
_MOST_SAMPLES = 12
_FLOORED = (("K", "negentropy_logits", "k"), ("C", "lz_complexity_logits", "c"))
_READINGS = (*_FLOORED, ("S", "symbiosis_score", "s"))


class RunView:
    """Shows a run and follows it while the page is open."""

    def __init__(self, desk: Desk, run: str) -> None:
        self._desk = desk
        self._feed = RunFeed(desk.backend, desk.pulse, run)
        self._details: dict[str, Any] | None = None
        self._seen, self._shown_samples = (-1, 0), -1
        self._kpis: dict[str, tuple[Any, ui.label]] = {}
        with ui.column().classes("w-full").style("gap:16px") as self._root:
            self._head()
            self._alert = ui.label().classes("bt-alert").props("role=alert")
            with ui.element("div").classes("bt-kpis"):
                for name in ("Step", "Loss", "Held out", "K", "C", "S", "Speed", "Time left"):
                    self._kpis[name] = _kpi(name)
            self._charts = Charts(desk)
            with card("Samples", "What the model writes from nothing, newest first."):
                self._samples = ui.column().classes("w-full")
            self._facts = ui.column().classes("w-full")
            self._timer = ui.timer(_EVERY, self._draw)
        desk.on_theme.append(self._dress)
        self._task = background_tasks.create(self._feed.run(), name=f"feed of {run}")
        ui.context.client.on_delete(self._pause)

    def _head(self) -> None:
        name = self._feed.run_name
        with ui.row().classes("w-full items-center bt-head").style("gap:8px 16px"):
            with ui.element("h1").classes("bt-title").style("font-size:1.35rem"):
                ui.label(name)
            self._chips = ui.row().style("gap:6px")
            ui.space()
            with ui.row().classes("bt-actions"):
                self._cancel = button("Cancel", "stop", self._end)
                self._save = button("Save now", "save", self._checkpoint)
                self._more = button("Train on", "play_arrow", self._train_on)
                button("Ask", "forum", lambda: self._desk.show_tab("ask"))

    def close(self) -> None:
        """Follow no longer."""
        self._pause()
        self._timer.cancel()
        self._desk.on_theme.remove(self._dress)
        self._root.delete()

    def _pause(self) -> None:
        self._task.cancel()

    def _job(self) -> dict[str, Any] | None:
        """The job that writes to this run now."""
        jobs = self._desk.pulse.snapshot.active
        return next((job for job in jobs if job["run"] == self._feed.run_name), None)

    def _failure(self) -> str:
        """Why the last job of this run has failed, if it has."""
        jobs = self._desk.pulse.snapshot.jobs
        last = next((job for job in jobs if job["run"] == self._feed.run_name), None)
        if last is None or last["state"] != "failed":
            return ""
        return f"The last {last['operation']} failed: {last['error']}"

    def _draw(self) -> None:
        job, history = self._job(), self._feed.history
        self._cancel.set_visibility(job is not None)
        self._save.set_visibility(job is not None and job["state"] == "running")
        self._more.set_visibility(job is None and bool(self._details and self._details["settings"]))
        # A run that is being made is not there yet.
        problem = self._failure() or ("" if job else self._feed.problem or "")
        self._alert.set_text(problem)
        self._alert.set_visibility(bool(problem))
        self._time_left(job)
        if self._seen == (history.version, id(self._feed.details)):
            return
        self._seen = (history.version, id(self._feed.details))
        if self._details is not self._feed.details:
            self._details = self._feed.details
            self._show_facts()
        self._charts.show(history, floors_of(self._details))
        self._show_numbers(history)
        self._show_samples(history)

    def _dress(self, _: bool) -> None:
        self._charts.show(self._feed.history, floors_of(self._details))

    def _time_left(self, job: dict[str, Any] | None) -> None:
        left = (self._feed.progress or {}).get("seconds_left")
        words = DASH if job is None or left is None else duration(left)
        self._kpis["Time left"][1].set_text(words)

    def _show_numbers(self, history: History) -> None:
        step = max(history.loss, default=0)
        planned = ((self._details or {}).get("settings") or {}).get("train", {}).get("steps")
        self._kpis["Step"][1].set_text(f"{step}/{planned}" if planned else str(step))
        self._kpis["Loss"][1].set_text(number(latest(history.loss)))
        self._kpis["Held out"][1].set_text(number(latest(history.bits_per_byte)))
        speed = DASH if history.speed is None else f"{size(history.speed)}/s"
        self._kpis["Speed"][1].set_text(speed)
        floors = floors_of(self._details)
        for name, reading, floor in _READINGS:
            value = latest(history.readings.get(reading, {}))
            box, label = self._kpis[name]
            label.set_text(number(value, 2))
            lowest = min(floors.get(floor, {}).values(), default=0.0)
            is_low = value is not None and value < lowest
            box.classes(add="bt-low" if is_low else "", remove="" if is_low else "bt-low")

    def _show_samples(self, history: History) -> None:
        if self._shown_samples == len(history.samples):
            return
        self._shown_samples = len(history.samples)
        self._samples.clear()
        with self._samples:
            if not history.samples:
                empty("notes", "A sample is written at each evaluation.")
            for step in sorted(history.samples, reverse=True)[:_MOST_SAMPLES]:
                with ui.column().classes("bt-sample"):
                    ui.label(f"step {step}").classes("bt-help")
                    ui.label(history.samples[step]).classes("bt-mono")

    def _show_facts(self) -> None:
        self._chips.clear()
        self._facts.clear()
        with self._chips:
            for words in notable(self._details):
                chip(words, "on")
        with self._facts:
            draw_settings(self._details)

    async def _end(self) -> None:
        job = self._job()
        if job is not None:
            await self._desk.attempt(self._desk.backend.call("cancel_job", {"job": job["id"]}))

    async def _checkpoint(self) -> None:
        asked = self._desk.backend.call("checkpoint", {"run": self._feed.run_name})
        if await self._desk.attempt(asked):
            ui.notify("It saves after the step it is at.")

    async def _train_on(self) -> None:
        settings = (self._details or {}).get("settings") or {"train": {"steps": 0}}
        done = max(self._feed.history.loss, default=0)
        steps = max(settings["train"]["steps"], done)
        with ui.dialog() as dialog, ui.column().classes("bt-card").style("min-width:300px"):
            ui.label("Train on until step").classes("bt-title")
            wanted = ui.number("Planned steps", value=steps, min=done + 1).props("outlined dense")
            with ui.row().classes("bt-actions"):
                button("Train", "play_arrow", lambda: dialog.submit(wanted.value), main=True)
                button("Close", "close", dialog.close)
        planned = await dialog
        dialog.delete()
        if planned:
            more = {"steps": int(planned)}
            asked = {"run": self._feed.run_name, "resume": True, "train": more}
            await self._desk.attempt(self._desk.backend.call("train", asked))


def _kpi(name: str) -> tuple[Any, ui.label]:
    with ui.column().classes("bt-kpi") as box:
        ui.label(name).classes("bt-kpi-name")
        value = ui.label(DASH).classes("bt-kpi-value")
    return box, value
