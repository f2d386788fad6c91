"""Finds the checkpoint that a user's path or hub id means."""

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import CheckpointNotFoundError

Fetch = Callable[[str], Path | None]
"""Downloads what a name means and returns the local folder. None if it is not a valid name."""
_FETCHERS = ("bit_transformer.hub.transfer:fetch",)
"""Functions of type `Fetch` for names that are not local paths. They are imported on first use,
because the hub is a higher layer and imports this module."""
_ADDRESS = "hf:"
_PATH_BEGINNINGS = ("/", "./", "../", "~")


def is_surely_a_path(name: str) -> bool:
    """Whether a name can only be a path, so that the hub is not asked for it.

    A name is a path if it begins like one or has more than one slash. It also is one if its first
    part is a local folder, because a misspelt run is more likely than a hub user of that name. A
    name that begins with hf: is a hub address.
    """
    if name.startswith(_ADDRESS):
        return False
    folder, _, rest = name.partition("@")[0].partition("/")
    return name.startswith(_PATH_BEGINNINGS) or "/" in rest or Path(folder or ".").is_dir()


def local_folder(name: str | Path) -> Path:
    """The path itself if it exists or can only be a path; else the local copy of a hub id.

    Pass the user's own text and not a `Path`, which drops a leading ./ from it. Raises `HubError`
    when the download fails.
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
    """The checkpoint that `name` means: a checkpoint folder itself, the latest checkpoint of a run
    folder or of its `checkpoints`, or the local copy of a hub id.

    Raises `CheckpointNotFoundError` when there is none, `CheckpointCorruptError` when all are
    damaged, and the errors of `local_folder`.
    """
    path = local_folder(name)
    if (path / MANIFEST).is_file():
        return path
    for folder in (path / "checkpoints", path):
        latest = CheckpointFolder(folder).latest()
        if latest is not None:
            return latest
    what = "holds no complete checkpoint" if path.exists() else "does not exist"
    raise CheckpointNotFoundError(
        f"{path} {what}; looked for {MANIFEST}, checkpoints/step-*/{MANIFEST} and "
        f"step-*/{MANIFEST}: name a run folder or a checkpoint folder"
    )
