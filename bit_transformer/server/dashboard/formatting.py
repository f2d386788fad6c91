"""Numbers and names as text for people. Pure functions."""

import re

DASH = "\u2013"
"""Shown instead of a missing value."""
_UPPER = {"act", "qat", "lr", "k", "c", "s", "p", "utf8"}
_LABELS = {
    "lr": "learning rate",
    "nhead": "attention heads",
    "d_model": "width (d_model)",
    "num_layers": "layers",
    "dim_feedforward": "feed-forward width",
    "max_seq_len": "context in bits",
    "use_checkpoint": "checkpointing",
    "use_act": "adaptive computation (ACT)",
    "qat": "4-bit QAT",
    "out": "new name",
    "to": "weights",
    "gate": "use the safety gate",
    "mix": "mix with a context mixer",
    "given": "text that the mixer learns first",
    "append": "go on from the saved mixer",
    "table_bits": "size of the table in bits",
    "queue": "send refused output to review",
    "private": "private repository",
    "run": "run",
    "repo": "repository",
    "ctx_bits": "window in bits",
}


def label_of(name: str) -> str:
    """Return the label of a field name."""
    text = _LABELS.get(name) or " ".join(
        word.upper() if word in _UPPER else word for word in name.split("_")
    )
    return text[:1].upper() + text[1:]


def help_of(text: str) -> str:
    """Return a docstring as one line."""
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def size(count: float) -> str:
    """Return a number of bytes with its binary unit, such as "2.0 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds in at most two units, such as "1 min 01 s"."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60} min {left % 60:02d} s"
    return f"{left // 3600} h {left % 3600 // 60:02d} min"


def number(value: float | None, digits: int = 3) -> str:
    """Return a metric with fixed decimals, or a dash if it is missing."""
    return DASH if value is None else f"{value:.{digits}f}"


def file_name(given: str) -> str:
    """Return the nearest file name that the server accepts for an upload."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", given).lstrip("._-")[:100]
    return name or "file"
