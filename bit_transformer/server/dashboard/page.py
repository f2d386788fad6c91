"""The one page: header, banner, jobs under way, and a tab for each thing to do."""

from collections.abc import Callable

from nicegui import ui

from bit_transformer.server.dashboard import settings as stored
from bit_transformer.server.dashboard import theme
from bit_transformer.server.dashboard.ask_panel import draw_asking
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.files_panel import draw_files
from bit_transformer.server.dashboard.jobs_strip import draw_jobs
from bit_transformer.server.dashboard.models_panel import draw_models
from bit_transformer.server.dashboard.pulse import Pulse, Snapshot
from bit_transformer.server.dashboard.review_panel import draw_review
from bit_transformer.server.dashboard.runs_panel import draw_runs
from bit_transformer.server.dashboard.settings import Tab
from bit_transformer.server.dashboard.train_panel import draw_training

_EVERY = 0.5
_DRAW: dict[Tab, Callable[[Desk], None]] = {
    "runs": draw_runs,
    "new": draw_training,
    "ask": draw_asking,
    "review": draw_review,
    "files": draw_files,
    "hub": draw_models,
}
_TABS: tuple[tuple[Tab, str, str], ...] = (
    ("runs", "Runs", "show_chart"),
    ("new", "Train", "model_training"),
    ("ask", "Ask", "forum"),
    ("review", "Review", "rule"),
    ("files", "Files", "folder"),
    ("hub", "Models", "hub"),
)


async def draw_page(backend: Backend, pulse: Pulse) -> None:
    """Build the page of a visitor."""
    theme.apply()
    dark = ui.dark_mode(value=None)
    with ui.column().classes("w-full items-center q-pa-xl") as waiting:
        ui.spinner(size="lg").props('aria-label="loading"')
    await ui.context.client.connected(timeout=60)
    desk = Desk(backend, pulse, await stored.load())
    dark.value = desk.settings.dark
    pulse.hurry()
    waiting.delete()
    with ui.column().classes("w-full no-wrap").style("gap:0"):
        _header(desk, dark)
        _banner(desk)
        with ui.element("main").props("id=main").classes("w-full"):
            draw_jobs(desk)
            _panels(desk)
    stored.keep(desk.settings)
    _listen(desk)


def _header(desk: Desk, dark: ui.dark_mode) -> None:
    def turn() -> None:
        desk.settings.dark = not desk.dark
        dark.value = desk.dark
        for listener in desk.on_theme:
            listener(desk.dark)

    ui.link("Skip to content", "#main").classes("bt-skip")
    with ui.element("header").classes("bt-header w-full"):
        with ui.element("div").classes("bt-brand"):
            ui.html(theme.LOGO, sanitize=False)
            ui.label("BitTransformerLM")
        with (
            ui.tabs()
            .classes("bt-tabs")
            .props(
                'dense no-caps inline-label mobile-arrows outside-arrows aria-label="Parts"'
            ) as tabs
        ):
            made = {name: ui.tab(name, label, icon) for name, label, icon in _TABS}
        tabs.bind_value(desk.settings, "tab")
        ui.space()
        state = ui.label("connecting").classes("bt-chip").props("role=status")
        ui.button(icon="contrast", on_click=turn).props(
            'flat round dense aria-label="Switch between light and dark"'
        )

    def go(name: Tab) -> None:
        tabs.set_value(name)

    desk.show_tab = go
    with made["review"]:
        badge = ui.badge("0").props("floating color=negative")

    def show(now: Snapshot) -> None:
        badge.set_text(str(now.held))
        badge.set_visibility(now.held > 0)
        state.set_text(_state_words(now))
        state.classes(add="bad" if now.problem else "good", remove="good" if now.problem else "bad")

    desk.listeners.append(show)


def _state_words(now: Snapshot) -> str:
    if now.problem:
        return "server unreachable"
    if now.status is None:
        return "connecting"
    return f"connected, {now.status['gpu'] or 'CPU'}"


def _banner(desk: Desk) -> None:
    with ui.row().classes("bt-banner").props("role=alert") as banner:
        ui.icon("cloud_off", size="sm").props("aria-hidden=true")
        words = ui.label()
        ui.space()
        ui.button("Try now", on_click=desk.pulse.hurry).props("flat no-caps dense color=white")
    banner.set_visibility(False)

    def show(now: Snapshot) -> None:
        words.set_text(
            f"{now.problem}. What is typed here stays; the dashboard tries again by itself."
        )
        banner.set_visibility(now.problem is not None)

    desk.listeners.append(show)


def _panels(desk: Desk) -> None:
    with ui.tab_panels(value=desk.settings.tab, animated=False, keep_alive=True).classes(
        "w-full bg-transparent"
    ) as panels:
        for name, label, _ in _TABS:
            panel = ui.tab_panel(name).props(f'aria-label="{label}"')
            with panel, ui.column().classes("bt-main"):
                _DRAW[name](desk)
    panels.bind_value(desk.settings, "tab")


def _listen(desk: Desk) -> None:
    last: Snapshot | None = None

    def look() -> None:
        nonlocal last
        if desk.pulse.snapshot is not last:
            last = desk.pulse.snapshot
            for listener in desk.listeners:
                listener(last)

    ui.timer(_EVERY, look)
