"""The dashboard's only page: header, banner, active jobs and one tab per task."""

from collections.abc import Callable

from nicegui import ui

from bit_transformer.server.dashboard import preferences, theme
from bit_transformer.server.dashboard.ask_panel import draw_asking
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.files_panel import draw_files
from bit_transformer.server.dashboard.jobs_bar import draw_jobs
from bit_transformer.server.dashboard.models_panel import draw_models
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.poller import Poller, Snapshot
from bit_transformer.server.dashboard.preferences import Tab
from bit_transformer.server.dashboard.review_panel import draw_review
from bit_transformer.server.dashboard.runs_panel import draw_runs
from bit_transformer.server.dashboard.train_panel import draw_training

_SNAPSHOT_SECONDS = 0.5
_TABS: tuple[tuple[Tab, str, str, Callable[[PageContext], None]], ...] = (
    ("runs", "Runs", "show_chart", draw_runs),
    ("new", "Train", "model_training", draw_training),
    ("ask", "Ask", "forum", draw_asking),
    ("review", "Review", "rule", draw_review),
    ("files", "Files", "folder", draw_files),
    ("hub", "Models", "hub", draw_models),
)
"""(name, label, icon, function that draws the tab)"""


async def draw_page(backend: Backend, poller: Poller) -> None:
    """Build the page for one visitor."""
    theme.apply()
    dark = ui.dark_mode(value=None)
    with ui.column().classes("w-full items-center q-pa-xl") as loading:
        ui.spinner(size="lg").props('aria-label="loading"')
    # The preferences can be read only once the browser is connected.
    await ui.context.client.connected(timeout=60)
    page = PageContext(backend, poller, await preferences.load())
    dark.value = page.preferences.dark
    poller.poll_now()
    loading.delete()
    with ui.column().classes("w-full no-wrap").style("gap:0"):
        _draw_header(page, dark)
        _draw_banner(page)
        with ui.element("main").props("id=main").classes("w-full"):
            draw_jobs(page)
            _draw_panels(page)
    preferences.save_changes(page.preferences)
    _pass_on_snapshots(page)


def _draw_header(page: PageContext, dark: ui.dark_mode) -> None:
    def switch_theme() -> None:
        page.preferences.dark = not page.dark
        dark.value = page.dark
        for listener in page.on_theme:
            listener(page.dark)

    ui.link("Skip to content", "#main").classes("bt-skip")
    with ui.element("header").classes("bt-header w-full"):
        with ui.element("div").classes("bt-brand"):
            ui.html(theme.LOGO, sanitize=False)
            ui.label("BitTransformerLM")
        with (
            ui.tabs()
            .classes("bt-tabs")
            .props(
                'dense no-caps inline-label mobile-arrows outside-arrows aria-label="Sections"'
            ) as tabs
        ):
            made = {name: ui.tab(name, label, icon) for name, label, icon, _ in _TABS}
        tabs.bind_value(page.preferences, "tab")
        ui.space()
        state = ui.label("connecting").classes("bt-chip").props("role=status")
        ui.button(icon="contrast", on_click=switch_theme).props(
            'flat round dense aria-label="Switch between light and dark"'
        )

    page.show_tab = tabs.set_value
    with made["review"]:
        badge = ui.badge("0").props("floating color=negative")

    def show(now: Snapshot) -> None:
        badge.set_text(str(now.pending_reviews))
        badge.set_visibility(now.pending_reviews > 0)
        state.set_text(_connection_text(now))
        state.classes(add="bad" if now.problem else "good", remove="good" if now.problem else "bad")

    page.on_snapshot.append(show)


def _connection_text(now: Snapshot) -> str:
    if now.problem:
        return "server unreachable"
    if now.status is None:
        return "connecting"
    return f"connected, {now.status['gpu'] or 'CPU'}"


def _draw_banner(page: PageContext) -> None:
    with ui.row().classes("bt-banner").props("role=alert") as banner:
        ui.icon("cloud_off", size="sm").props("aria-hidden=true")
        message = ui.label()
        ui.space()
        ui.button("Try now", on_click=page.poller.poll_now).props("flat no-caps dense color=white")
    banner.set_visibility(False)

    def show(now: Snapshot) -> None:
        message.set_text(
            f"{now.problem}. What you have typed is kept. The dashboard keeps trying to connect."
        )
        banner.set_visibility(now.problem is not None)

    page.on_snapshot.append(show)


def _draw_panels(page: PageContext) -> None:
    with ui.tab_panels(value=page.preferences.tab, animated=False, keep_alive=True).classes(
        "w-full bg-transparent"
    ) as panels:
        for name, label, _, draw in _TABS:
            panel = ui.tab_panel(name).props(f'aria-label="{label}"')
            with panel, ui.column().classes("bt-main"):
                draw(page)
    panels.bind_value(page.preferences, "tab")


def _pass_on_snapshots(page: PageContext) -> None:
    """Call the listeners of the page whenever the poller has a new snapshot."""
    last: Snapshot | None = None

    def check() -> None:
        nonlocal last
        if page.poller.snapshot is not last:
            last = page.poller.snapshot
            for listener in page.on_snapshot:
                listener(last)

    ui.timer(_SNAPSHOT_SECONDS, check)
