"""Files on the server: upload, download, remove, compress, decompress."""

from typing import Any

from nicegui import events, ui

from bit_transformer.compression.config import SUFFIX
from bit_transformer.server.dashboard.desk import Desk, complain
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.pieces import button, card, empty, folded
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.words import file_name, size


def draw_files(desk: Desk) -> None:
    """The files, and what can be done with them."""
    with ui.element("div").classes("bt-split bt-halves"):
        with card("Files", "Training data, texts to read, and what compression makes of them."):
            _draw_upload(desk)
            entries = ui.column().classes("w-full").style("gap:0")
        with ui.column().classes("w-full").style("gap:16px"):
            with card("Compress", "Losslessly; with a model smaller and slower."):
                pack = _draw_form(desk, "compress", "Compress", "compress")
            with card("Decompress"):
                unpack = _draw_form(desk, "decompress", "Decompress", "unfold_more")
    shown: list[Any] = []

    def show(now: Snapshot) -> None:
        for form in (pack, unpack):
            form.offer("file", now.file_names())
            form.offer("run", now.run_names())
        if now.status is not None and (now.files != shown or not shown):
            shown[:] = now.files
            entries.clear()
            with entries:
                _draw_list(desk, now.files)

    desk.listeners.append(show)


def _draw_form(desk: Desk, operation: str, text: str, icon: str) -> Form:
    form = desk.form(operation)

    async def start() -> None:
        if await desk.submit(operation, form):
            # Its name is taken from now on.
            form.set("out", None)

    file = form.field("file", choices=())
    form.field("out")
    form.field("run", choices=())
    with folded("How"):
        form.rest("")
    form.alert()
    with ui.row().classes("bt-actions"):
        button(text, icon, start, main=True)
    file.on_value_change(lambda event: _suggest(form, operation, event.value))
    return form


def _suggest(form: Form, operation: str, name: str | None) -> None:
    """A name for what becomes of a file, where none was given."""
    if name and not form.value("out"):
        packed, unpacked = f"{name}{SUFFIX}", f"{name.removesuffix(SUFFIX)}.out"
        form.set("out", packed if operation == "compress" else unpacked)


def _draw_upload(desk: Desk) -> None:
    limits = (desk.pulse.snapshot.status or {}).get("limits", {})

    async def take(event: events.UploadEventArguments) -> None:
        name = file_name(event.file.name)
        asked = desk.backend.upload(name, event.file.size(), event.file.iterate())
        if await desk.attempt(asked):
            ui.notify(f"{name} is uploaded.", type="positive")

    ui.upload(
        label="Upload files",
        multiple=True,
        auto_upload=True,
        max_file_size=int(limits["upload_bytes"]) if limits else None,
        on_upload=take,
        on_rejected=lambda: complain("That file is larger than the server takes (--upload-bytes)."),
    ).props("flat bordered").classes("w-full")


def _draw_list(desk: Desk, files: list[dict[str, Any]]) -> None:
    if not files:
        empty("upload_file", "No files yet.")
    for file in files:
        name = file["name"]
        with ui.row().classes("w-full items-center no-wrap bt-file"):
            ui.label(name).style("overflow-wrap:anywhere;min-width:0;flex:1")
            ui.label(size(file["bytes"])).classes("bt-soft").style("white-space:nowrap")
            ui.button(icon="download").props(
                f'flat round dense type=a href="/download/{name}" aria-label="Download {name}"'
            )
            ui.button(icon="delete", on_click=lambda name=name: _remove(desk, name)).props(
                f'flat round dense aria-label="Remove {name}"'
            )


async def _remove(desk: Desk, name: str) -> None:
    with ui.dialog() as dialog, ui.column().classes("bt-card"):
        ui.label(f"Remove {name} from the server?").classes("bt-title")
        with ui.row().classes("bt-actions"):
            button("Remove", "delete", lambda: dialog.submit(True), main=True)
            button("Keep", "close", dialog.close)
    if await dialog:
        await desk.attempt(desk.backend.call("delete_file", {"name": name}))
    dialog.delete()
