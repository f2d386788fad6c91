"""Text columns of Hugging Face data sets, streamed to a file; the only importer of `datasets`."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from bit_transformer.data.spool import spool_atomically
from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.extras import extra_imports

SCHEME = "hf://"
DEFAULT_BYTES = 1_000_000_000
_OPTIONS = ("config", "split", "column", "bytes")


@dataclass(frozen=True)
class HubSource:
    """One column of one split of a data set; at most `limit` bytes of it are used."""

    name: str
    config: str | None = None
    split: str = "train"
    column: str = "text"
    limit: int = DEFAULT_BYTES

    def __str__(self) -> str:
        return f"{SCHEME}{self.name} ({self.split}, column {self.column})"


def parse_hub_source(spec: str) -> HubSource:
    """Parse `hf://NAME[?config=..&split=train&column=text&bytes=N]`.

    NAME is OWNER/NAME or a local folder. Raises ConfigError for an unknown or repeated option, a
    missing name, or bytes below 1.
    """
    parts = urlsplit(spec, allow_fragments=False)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or len(options) != len(pairs) or not all(options.values()):
        raise ConfigError(f"{spec}: use each of {', '.join(_OPTIONS)} at most once, with a value")
    name = unquote(parts.netloc + parts.path).rstrip("/")
    if not name:
        raise ConfigError(f"{spec} names no data set; write {SCHEME}OWNER/NAME")
    limit = _parse_limit(spec, options.pop("bytes", str(DEFAULT_BYTES)))
    return HubSource(name, limit=limit, **options)


def absolute_hub_source(spec: str) -> str:
    """Return the same source, with the absolute path where its name is a local folder."""
    folder = Path(parse_hub_source(spec).name)
    if folder.is_absolute() or not folder.is_dir():
        return spec
    query = urlsplit(spec, allow_fragments=False).query
    return f"{SCHEME}{quote(str(folder.absolute()))}" + (f"?{query}" if query else "")


def spool_hub_source(spec: str, spool: Path) -> Path:
    """Stream the column's rows, joined by newlines, to a file under `spool` and return its path.

    At most `bytes` bytes (default 1e9) are written; the last row may be cut. A JSON file beside it
    records the source. The same source is not fetched twice, so that a resumed run sees the same
    bytes; delete the file to fetch it again.

    Raises ConfigError for a malformed spec, MissingExtraError without `datasets`, SourceError for
    a data set, split or column that cannot be read or holds no text, StorageError for a full disk.
    """
    source = parse_hub_source(spec)
    identity = json.dumps(asdict(source), sort_keys=True)
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", source.name).strip("-.")[-60:]
    path = spool / f"hf-{stem}-{sha256(identity.encode()).hexdigest()[:12]}.txt"
    if not _holds(path, source):
        size = spool_atomically(path, _limited(_joined(_texts(source)), source.limit))
        if not size:
            raise SourceError(f"{source} holds no text; choose another split or column")
        _write_sidecar(path, source, size)
    return path


def _parse_limit(spec: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise ConfigError(f"{spec}: bytes must be a whole number of at least 1, got {text!r}")
    return int(text)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_sidecar(path: Path, source: HubSource, size: int) -> None:
    text = json.dumps({"source": asdict(source), "bytes": size}, indent=2) + "\n"
    spool_atomically(_sidecar(path), [text.encode()])


def _holds(path: Path, source: HubSource) -> bool:
    """Whether the file is complete and of this source; False if its sidecar cannot be read."""
    try:
        found = json.loads(_sidecar(path).read_text(encoding="utf-8"))
        return bool(found == {"source": asdict(source), "bytes": path.stat().st_size})
    except (OSError, ValueError):
        return False


def _texts(source: HubSource) -> Iterator[bytes]:
    load_dataset = _import_load_dataset()
    try:
        rows = load_dataset(source.name, source.config, split=source.split, streaming=True)
        for row in rows:
            text = _column(row, source)
            if text is not None:
                yield text.encode("utf-8", errors="surrogatepass")
    except SourceError:
        raise
    except Exception as error:
        # `datasets` passes on the errors of many libraries, which have no common base class.
        reason = " ".join(str(error).split())[:300]
        raise SourceError(
            f"cannot read {source}: {type(error).__name__}: {reason}; "
            "check name, config, split and network"
        ) from error


def _column(row: dict[str, Any], source: HubSource) -> str | None:
    """Return the text of one row, or None where the data set holds a null."""
    if source.column not in row:
        raise SourceError(f"{source} has no such column; choose one of {', '.join(sorted(row))}")
    text = row[source.column]
    if text is None or isinstance(text, str):
        return text
    raise SourceError(f"{source} holds {type(text).__name__}, not text; choose another column")


def _joined(texts: Iterable[bytes]) -> Iterator[bytes]:
    for index, text in enumerate(texts):
        yield from (b"\n", text) if index else (text,)


def _limited(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    left = limit
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def _import_load_dataset() -> Any:
    with extra_imports("the library datasets", extra="data", purpose=f"a source {SCHEME}..."):
        from datasets import load_dataset
    return load_dataset
