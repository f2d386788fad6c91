"""Tab "Files": upload, download, remove, compress and decompress files of the server."""

from typing import Any

from nicegui import events, ui

from bit_transformer.compression.config import SUFFIX
from bit_transformer.server.dashboard.components import button, card, collapsed, empty
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.formatting import file_name, size
from bit_transformer.server.dashboard.page_context import PageContext, show_error
from bit_transformer.server.dashboard.poller import Snapshot


def draw_files(page: PageContext) -> None:
    """Draw the tab."""
    with ui.element("div").classes("bt-split bt-halves"):
        with card("Files", "Training data, texts to analyse, and compressed files."):
            _draw_upload(page)
            entries = ui.column().classes("w-full").style("gap:0")
        with ui.column().classes("w-full").style("gap:16px"):
            with card("Compress", "Lossless. A model makes the file smaller but takes longer."):
                compress = _draw_form(page, "compress", "Compress", "compress")
            with card("Decompress", "Restores the original file."):
                decompress = _draw_form(page, "decompress", "Decompress", "unfold_more")
    drawn: list[Any] = []

    def show(now: Snapshot) -> None:
        for form in (compress, decompress):
            form.set_options("file", now.file_names())
            form.set_options("run", now.run_names())
        if now.status is not None and (now.files != drawn or not drawn):
            drawn[:] = now.files
            entries.clear()
            with entries:
                _draw_list(page, now.files)

    page.on_snapshot.append(show)


def _draw_form(page: PageContext, operation: str, text: str, icon: str) -> Form:
    form = page.form(operation)

    async def start() -> None:
        if await page.submit(operation, form):
            # The name is taken from now on, so the next file needs another one.
            form.set("out", None)

    file = form.field("file", choices=())
    form.field("out")
    form.field("run", choices=())
    with collapsed("Options"):
        form.remaining_fields("")
    form.error_area()
    with ui.row().classes("bt-actions"):
        button(text, icon, start, main=True)
    file.on_value_change(lambda event: _suggest_name(form, operation, event.value))
    return form


def _suggest_name(form: Form, operation: str, name: str | None) -> None:
    """Suggest a name for the new file if the user has not given one."""
    if name and not form.value("out"):
        compressed, decompressed = f"{name}{SUFFIX}", f"{name.removesuffix(SUFFIX)}.out"
        form.set("out", compressed if operation == "compress" else decompressed)


def _draw_upload(page: PageContext) -> None:
    limits = (page.poller.snapshot.status or {}).get("limits", {})

    async def upload(event: events.UploadEventArguments) -> None:
        name = file_name(event.file.name)
        call = page.backend.upload(name, event.file.size(), event.file.iterate())
        if await page.attempt(call):
            ui.notify(f"{name} is uploaded.", type="positive")

    ui.upload(
        label="Upload files",
        multiple=True,
        auto_upload=True,
        max_file_size=int(limits["upload_bytes"]) if limits else None,
        on_upload=upload,
        on_rejected=lambda: show_error(
            "The file is larger than the server accepts. Raise --upload-bytes of the server."
        ),
    ).props("flat bordered").classes("w-full")


def _draw_list(page: PageContext, files: list[dict[str, Any]]) -> None:
    if not files:
        empty("upload_file", "There are no files yet.")
    for file in files:
        name = file["name"]
        with ui.row().classes("w-full items-center no-wrap bt-file"):
            ui.label(name).style("overflow-wrap:anywhere;min-width:0;flex:1")
            ui.label(size(file["bytes"])).classes("bt-muted").style("white-space:nowrap")
            ui.button(icon="download").props(
                f'flat round dense type=a href="/download/{name}" aria-label="Download {name}"'
            )
            ui.button(icon="delete", on_click=lambda name=name: _remove(page, name)).props(
                f'flat round dense aria-label="Remove {name}"'
            )


async def _remove(page: PageContext, name: str) -> None:
    with ui.dialog() as dialog, ui.column().classes("bt-card"):
        ui.label(f"Remove {name} from the server?").classes("bt-title")
        with ui.row().classes("bt-actions"):
            button("Remove", "delete", lambda: dialog.submit(True), main=True)
            button("Keep", "close", dialog.close)
    if await dialog:
        await page.attempt(page.backend.call("delete_file", {"name": name}))
    dialog.delete()
