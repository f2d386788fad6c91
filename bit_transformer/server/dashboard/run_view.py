"""One run: progress, quality, charts, samples and settings, and buttons to control it."""

from collections.abc import Mapping
from typing import Any

from nicegui import background_tasks, ui

from bit_transformer.server.dashboard import chart_options
from bit_transformer.server.dashboard.components import button, card, chip, empty
from bit_transformer.server.dashboard.formatting import DASH, duration, number, size
from bit_transformer.server.dashboard.history import History, latest
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.run_details import draw_settings, enabled_features, floors_of
from bit_transformer.server.dashboard.run_feed import RunFeed

_DRAW_SECONDS = 0.4
_MAX_SAMPLES = 12
_LEGEND = (
    "Dashed lines are floors. A triangle is a drift warning: the metric has left its usual range."
)


class RunView:
    """Shows a run and follows it while the page is open."""

    def __init__(self, page: PageContext, run: str) -> None:
        self._page = page
        self._feed = RunFeed(page.backend, page.poller, run)
        self._details: dict[str, Any] | None = None
        self._drawn, self._drawn_samples = (-1, 0), -1
        self._kpis: dict[str, tuple[Any, ui.label]] = {}
        with ui.column().classes("w-full").style("gap:16px") as self._root:
            self._draw_head()
            self._alert = ui.label().classes("bt-alert").props("role=alert")
            with ui.element("div").classes("bt-kpis"):
                for name in ("Step", "Loss", "Held-out", "K", "C", "S", "Speed", "Time left"):
                    self._kpis[name] = _draw_kpi(name)
            self._charts = Charts(page)
            with card("Samples", "Text that the model generates without a prompt, newest first."):
                self._samples = ui.column().classes("w-full")
            self._settings = ui.column().classes("w-full")
            self._timer = ui.timer(_DRAW_SECONDS, self._draw)
        page.on_theme.append(self._draw_charts)
        self._task = background_tasks.create(self._feed.run(), name=f"feed of {run}")
        ui.context.client.on_delete(self._stop_feed)

    def _draw_head(self) -> None:
        name = self._feed.run_name
        with ui.row().classes("w-full items-center bt-head").style("gap:8px 16px"):
            with ui.element("h1").classes("bt-title").style("font-size:1.35rem"):
                ui.label(name)
            self._chips = ui.row().style("gap:6px")
            ui.space()
            with ui.row().classes("bt-actions"):
                self._cancel_button = button("Cancel", "stop", self._cancel)
                self._save_button = button("Save now", "save", self._save_checkpoint)
                self._continue_button = button(
                    "Continue training", "play_arrow", self._continue_training
                )
                button("Ask", "forum", lambda: self._page.show_tab("ask"))

    def close(self) -> None:
        """Stop following the run and remove the view."""
        self._stop_feed()
        self._timer.cancel()
        self._page.on_theme.remove(self._draw_charts)
        self._root.delete()

    def _stop_feed(self) -> None:
        self._task.cancel()

    def _active_job(self) -> dict[str, Any] | None:
        """Return the active job that writes to this run."""
        jobs = self._page.poller.snapshot.active
        return next((job for job in jobs if job["run"] == self._feed.run_name), None)

    def _failure(self) -> str:
        """Return the error of the last job of this run; empty if it did not fail."""
        jobs = self._page.poller.snapshot.jobs
        last = next((job for job in jobs if job["run"] == self._feed.run_name), None)
        if last is None or last["state"] != "failed":
            return ""
        return f"The last job of this run ({last['operation']}) failed: {last['error']}"

    def _draw(self) -> None:
        job, history = self._active_job(), self._feed.history
        self._cancel_button.set_visibility(job is not None)
        self._save_button.set_visibility(job is not None and job["state"] == "running")
        can_continue = job is None and bool(self._details and self._details["settings"])
        self._continue_button.set_visibility(can_continue)
        # While a job creates the run, the server does not know the run yet.
        problem = self._failure() or ("" if job else self._feed.problem or "")
        self._alert.set_text(problem)
        self._alert.set_visibility(bool(problem))
        self._show_time_left(job)
        if self._drawn == (history.version, id(self._feed.details)):
            return
        self._drawn = (history.version, id(self._feed.details))
        if self._details is not self._feed.details:
            self._details = self._feed.details
            self._show_details()
        self._draw_charts()
        self._show_numbers(history)
        self._show_samples(history)

    def _draw_charts(self, _: bool = False) -> None:
        self._charts.show(self._feed.history, floors_of(self._details))

    def _show_time_left(self, job: dict[str, Any] | None) -> None:
        left = (self._feed.progress or {}).get("seconds_left")
        self._kpis["Time left"][1].set_text(DASH if job is None or left is None else duration(left))

    def _show_numbers(self, history: History) -> None:
        step = max(history.loss, default=0)
        planned = ((self._details or {}).get("settings") or {}).get("train", {}).get("steps")
        self._kpis["Step"][1].set_text(f"{step}/{planned}" if planned else str(step))
        self._kpis["Loss"][1].set_text(number(latest(history.loss)))
        self._kpis["Held-out"][1].set_text(number(latest(history.bits_per_byte)))
        speed = DASH if history.speed is None else f"{size(history.speed)}/s"
        self._kpis["Speed"][1].set_text(speed)
        floors = floors_of(self._details)
        for name, metric, floor in chart_options.METRICS:
            value = latest(history.metrics.get(metric, {}))
            box, label = self._kpis[name]
            label.set_text(number(value, 2))
            lowest = min(floors.get(floor, {}).values(), default=0.0)
            is_low = value is not None and value < lowest
            box.classes(add="bt-low" if is_low else "", remove="" if is_low else "bt-low")

    def _show_samples(self, history: History) -> None:
        if self._drawn_samples == len(history.samples):
            return
        self._drawn_samples = len(history.samples)
        self._samples.clear()
        with self._samples:
            if not history.samples:
                empty("notes", "No samples yet. A training job writes one at each evaluation.")
            for step in sorted(history.samples, reverse=True)[:_MAX_SAMPLES]:
                with ui.column().classes("bt-sample"):
                    ui.label(f"step {step}").classes("bt-help")
                    ui.label(history.samples[step]).classes("bt-mono")

    def _show_details(self) -> None:
        self._chips.clear()
        self._settings.clear()
        with self._chips:
            for feature in enabled_features(self._details):
                chip(feature, "on")
        with self._settings:
            draw_settings(self._details)

    async def _cancel(self) -> None:
        job = self._active_job()
        if job is not None:
            await self._page.attempt(self._page.backend.call("cancel_job", {"job": job["id"]}))

    async def _save_checkpoint(self) -> None:
        call = self._page.backend.call("checkpoint", {"run": self._feed.run_name})
        if await self._page.attempt(call):
            ui.notify("A checkpoint is saved after the current step.")

    async def _continue_training(self) -> None:
        settings = (self._details or {}).get("settings") or {"train": {"steps": 0}}
        done = max(self._feed.history.loss, default=0)
        steps = max(settings["train"]["steps"], done)
        with ui.dialog() as dialog, ui.column().classes("bt-card").style("min-width:300px"):
            ui.label("Continue training").classes("bt-title")
            total = ui.number("Up to step", value=steps, min=done + 1).props("outlined dense")
            with ui.row().classes("bt-actions"):
                button("Train", "play_arrow", lambda: dialog.submit(total.value), main=True)
                button("Close", "close", dialog.close)
        planned = await dialog
        dialog.delete()
        if planned:
            fields = {"run": self._feed.run_name, "resume": True, "train": {"steps": int(planned)}}
            await self._page.attempt(self._page.backend.call("train", fields))


class Charts:
    """Charts of loss, K, C and S."""

    def __init__(self, page: PageContext) -> None:
        self._page = page
        self._charts: list[tuple[chart_options.ChartSpec, ui.echart]] = []
        with ui.element("div").classes("bt-charts"):
            for spec in chart_options.CHARTS:
                with ui.column().classes("bt-card").style("gap:4px"):
                    with ui.element("h3").classes("bt-title"):
                        ui.label(spec.title)
                    ui.label(spec.help).classes("bt-help")
                    chart = ui.echart(chart_options.options_of(spec, page.dark)).classes("bt-chart")
                    chart.props(f'role=img aria-label="{spec.title}"')
                self._charts.append((spec, chart))
        ui.label(_LEGEND).classes("bt-help").style("margin-top:-8px")

    def show(self, history: History, floors: Mapping[str, Mapping[str, float]]) -> None:
        """Draw the current lines in the colours of the theme.

        The data is set in the options of the element and not by a method call. A browser that has
        not loaded the chart's code yet, or that has lost its connection, would miss a call, but it
        gets the options as soon as it is ready.
        """
        for spec, chart in self._charts:
            options = chart_options.options_of(spec, self._page.dark)
            options["series"] = chart_options.series_of(spec, history, floors, self._page.dark)
            chart.options.clear()
            chart.options.update(options)
            chart.props["aria-label"] = chart_options.summary_of(spec, history)
            chart.update()


def _draw_kpi(name: str) -> tuple[Any, ui.label]:
    """Draw a number with its name. Return its box and the label of the number."""
    with ui.column().classes("bt-kpi") as box:
        ui.label(name).classes("bt-kpi-name")
        value = ui.label(DASH).classes("bt-kpi-value")
    return box, value
