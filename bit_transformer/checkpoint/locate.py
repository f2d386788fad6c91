"""From what a user names to the checkpoint that is meant."""

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import CheckpointNotFoundError

Fetch = Callable[[str], Path | None]
"""Returns the local copy of what a name means elsewhere, or None if it cannot mean anything."""
_FETCHERS = ("bit_transformer.hub.transfer:fetch",)
"""Functions of type `Fetch` for names that are not paths here. They are imported on first need,
because the hub is above this module and imports it."""
_ADDRESS = "hf:"
_PATH_BEGINNINGS = ("/", "./", "../", "~")


def is_surely_a_path(name: str) -> bool:
    """Whether a name can mean nothing but a path, so that nobody else is asked for it.

    That is so for what begins like a path or has more than one slash; and for a name in a folder
    that is here, because a misspelt run is far likelier than a hub's user called like the folder.
    What begins with hf: is an address.
    """
    if name.startswith(_ADDRESS):
        return False
    folder, _, rest = name.partition("@")[0].partition("/")
    return name.startswith(_PATH_BEGINNINGS) or "/" in rest or Path(folder or ".").is_dir()


def local_folder(name: str | Path) -> Path:
    """The path itself where there is something, else a local copy of what it names elsewhere.

    A name that can be nothing but a path stays as it is. A `Path` has forgotten whether it was
    spelt with ./, so hand over the user's own word. Raises what the lookups raise, a `HubError` for
    a hub id.
    """
    path = Path(name)
    if not path.exists() and not is_surely_a_path(str(name)):
        for fetcher in _FETCHERS:
            fetch: Fetch = resolve_name(fetcher)
            folder = fetch(str(name))
            if folder is not None:
                return folder
    return path


def locate_checkpoint(name: str | Path) -> Path:
    """The checkpoint folder itself, or the latest one of a run folder or of its `checkpoints`; of a
    hub id, its local copy.

    Raises `CheckpointNotFoundError` saying what was looked for, `CheckpointCorruptError` where none
    of several is whole, and what `local_folder` raises.
    """
    path = local_folder(name)
    if (path / MANIFEST).is_file():
        return path
    for folder in (path / "checkpoints", path):
        latest = CheckpointFolder(folder).latest()
        if latest is not None:
            return latest
    what = "holds no whole checkpoint" if path.exists() else "does not exist"
    raise CheckpointNotFoundError(
        f"{path} {what}; looked for {MANIFEST}, checkpoints/step-*/{MANIFEST} and "
        f"step-*/{MANIFEST}: name a run folder or a checkpoint folder"
    )
