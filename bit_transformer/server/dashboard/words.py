"""Numbers and names as people read them. Pure."""

import re

DASH = "\u2013"
"""Where there is no value yet."""
_UPPER = {"act", "qat", "lr", "k", "c", "s", "p", "utf8"}
_WHOLE = {
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
    "gate": "under the safety gate",
    "queue": "refused output to the review queue",
    "private": "private repository",
    "run": "run",
    "repo": "repository",
    "ctx_bits": "window in bits",
}


def label_of(name: str) -> str:
    """A field's name as its label."""
    text = _WHOLE.get(name) or " ".join(
        word.upper() if word in _UPPER else word for word in name.split("_")
    )
    return text[:1].upper() + text[1:]


def help_of(text: str) -> str:
    """A docstring as one paragraph."""
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def size(count: float) -> str:
    """Bytes with a unit of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as two units at most."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60} min {left % 60:02d} s"
    return f"{left // 3600} h {left % 3600 // 60:02d} min"


def number(value: float | None, digits: int = 3) -> str:
    """A reading, or a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}"


def file_name(given: str) -> str:
    """The nearest name that the server takes for an uploaded file."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", given).lstrip("._-")[:100]
    return name or "file"
