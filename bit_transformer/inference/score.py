"""Bits per byte and surprisal per byte of any data."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8

from bit_transformer.bits.codec import as_bytes, unpack_bytes
from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.inference.predictor import Predictor, require_predictions
from bit_transformer.model.transformer import BitTransformer

_WINDOWS_AT_ONCE = 32
ReadWindows = Callable[[np.ndarray], np.ndarray]
"""From the bytes of windows (B, n) to numbers for each byte (B, n, width)."""


@dataclass(frozen=True)
class Score:
    """The surprisal of some data under a model. Every byte counts, including the first."""

    surprisal: Float[np.ndarray, " bytes"]
    """Bits of information in each byte, given the bytes that its window holds before it."""
    window_bytes: int
    """Length of the scoring windows."""
    overlap_bytes: int
    """Bytes at the start of each window but the first that are context and are not counted."""

    @property
    def bits_per_byte(self) -> float:
        """Mean surprisal, in bits per byte: the code length under the model per byte of data."""
        return float(self.surprisal.mean(dtype=np.float64))


class Surprisals(NamedTuple):
    """The surprisal of each byte of a stretch, in bits."""

    static: Float[np.ndarray, " n"]
    """Under the network, whose weights do not change."""
    adaptive: Float[np.ndarray, " n"]
    """Under something that learns from each byte after the byte is scored."""


class AdaptiveScore(NamedTuple):
    """Two scores of the same bytes. They are different things and are not to be compared unnamed:
    what an adaptive score gains may have been learned from the beginning of the very data."""

    static: Score
    """Under the network alone."""
    adaptive: Score
    """Under something that learns from each byte after the byte is scored."""


def adaptive_score(
    network: BitTransformer,
    data: bytes | bytearray | memoryview | UInt8[np.ndarray, " bytes"],
    surprisals: Callable[..., Iterable[Surprisals]],
    *,
    window_bytes: int | None = None,
    overlap_bytes: int | None = None,
) -> AdaptiveScore:
    """Score each byte of `data` both ways, as `surprisals` yields them for pieces and windows.

    Other arguments and errors are those of `score_bytes`.
    """
    values = as_bytes(data)
    window, overlap = scoring_window(network, window_bytes, overlap_bytes)
    _require_bytes(values)
    found = surprisals([values], window_bytes=window, overlap_bytes=overlap)
    static, adaptive = map(np.concatenate, zip(*found, strict=True))
    return AdaptiveScore(Score(static, window, overlap), Score(adaptive, window, overlap))


def score_bytes(
    network: BitTransformer,
    data: bytes | bytearray | memoryview | UInt8[np.ndarray, " bytes"],
    *,
    window_bytes: int | None = None,
    overlap_bytes: int | None = None,
) -> Score:
    """Score each byte of `data` in overlapping windows.

    By default windows fill the context and overlap by half, so every byte after the first window
    has at least half a context before it. Without overlap every window starts without context.

    Raises `SourceError` for empty data, `ConfigError` for windows that do not fit the context,
    `InvalidBitsError` for anything but bytes, and `InvalidPredictionError` for NaN predictions.
    """
    values = as_bytes(data)
    window, overlap = scoring_window(network, window_bytes, overlap_bytes)
    _require_bytes(values)
    found = stream_surprisal(network, [values], window_bytes=window, overlap_bytes=overlap)
    return Score(np.concatenate(list(found)), window, overlap)


def _require_bytes(values: UInt8[np.ndarray, " bytes"]) -> None:
    if not len(values):
        raise SourceError("there is nothing to score: 0 bytes given, at least 1 is needed")


def stream_surprisal(
    network: BitTransformer,
    pieces: Iterable[UInt8[np.ndarray, " _"]],
    *,
    window_bytes: int | None = None,
    overlap_bytes: int | None = None,
) -> Iterator[Float[np.ndarray, " _"]]:
    """Yield the surprisal of `score_bytes` in stretches and in constant memory, for data that comes
    in pieces of any size. Raises `ConfigError` for windows that do not fit the context."""
    window, overlap = scoring_window(network, window_bytes, overlap_bytes)
    for likelihood in stream_likelihood(network, pieces, window, overlap):
        yield -likelihood.sum(-1)


def stream_likelihood(
    network: BitTransformer, pieces: Iterable[UInt8[np.ndarray, " _"]], window: int, overlap: int
) -> Iterator[Float[np.ndarray, "_ width"]]:
    """Yield log2 of the probability of every bit, in rows of one byte, in stretches and in constant
    memory. `width` is 8, or 9 with parity."""
    return in_windows(pieces, window, overlap, lambda rows: _row_likelihoods(network, rows))


def in_windows(
    pieces: Iterable[UInt8[np.ndarray, " _"]], window: int, overlap: int, read: ReadWindows
) -> Iterator[Float[np.ndarray, "_ width"]]:
    """Yield what `read` returns for every byte of data that comes in pieces, in stretches and in
    constant memory. Each window but the first begins with `overlap` bytes that are only context."""
    stride = _WINDOWS_AT_ONCE * (window - overlap)
    held, first = np.zeros(0, np.uint8), True
    for piece in pieces:
        held = np.concatenate((held, piece)) if len(held) else np.asarray(piece)
        while len(held) >= stride + overlap:
            rows = _stretch(held[: stride + overlap], window, overlap, read)
            yield rows[0 if first else overlap :]
            held, first = held[stride:], False
    if len(held) > (0 if first else overlap):
        yield _stretch(held, window, overlap, read)[0 if first else overlap :]


def _stretch(
    values: UInt8[np.ndarray, " bytes"], window: int, overlap: int, read: ReadWindows
) -> Float[np.ndarray, "bytes width"]:
    """Return the rows of all bytes, those of the overlap at the start included."""
    starts = np.arange(0, max(1, len(values) - overlap), window - overlap)
    whole = starts[starts + window <= len(values)]
    parts: list[np.ndarray] = []
    for group in np.split(whole, range(_WINDOWS_AT_ONCE, len(whole), _WINDOWS_AT_ONCE)):
        if len(group):
            rows = read(values[group[:, None] + np.arange(window)])
            parts += [
                row[overlap if start else 0 :] for start, row in zip(group, rows, strict=True)
            ]
    for start in starts[len(whole) :]:
        parts.append(read(values[None, start:])[0, overlap if start else 0 :])
    return np.concatenate(parts)


class Waiting:
    """Data in pieces that one reader has taken and another has not read yet."""

    def __init__(self) -> None:
        self._held: list[np.ndarray] = []

    def remember(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the pieces to the first reader."""
        for piece in pieces:
            self._held.append(piece)
            yield piece

    def take(self, count: int) -> UInt8[np.ndarray, " count"]:
        """Return the next bytes for the second reader. The first must have taken them."""
        taken: list[np.ndarray] = [np.zeros(0, np.uint8)]
        while count and self._held:
            taken.append(self._held[0][:count])
            count -= len(taken[-1])
            # A view and not a copy, because all data may be one piece.
            self._held[0] = self._held[0][len(taken[-1]) :]
            if not len(self._held[0]):
                self._held.pop(0)
        return np.concatenate(taken)


def scoring_window(
    network: BitTransformer, window_bytes: int | None, overlap_bytes: int | None
) -> tuple[int, int]:
    """Return window and overlap in bytes. The default is one context and half a window. Raises
    `ConfigError` where they do not fit the context."""
    config = network.config
    limit = config.max_seq_len // config.bits_per_byte
    window = limit if window_bytes is None else window_bytes
    overlap = window // 2 if overlap_bytes is None else overlap_bytes
    if not 1 <= window <= limit:
        raise ConfigError(f"a window must have 1 to {limit} bytes to fit the context, got {window}")
    if not 0 <= overlap < window:
        raise ConfigError(f"the overlap must be in [0, {window}) bytes, got {overlap}")
    return window, overlap


def _row_likelihoods(
    network: BitTransformer, rows: UInt8[np.ndarray, "B n"]
) -> Float[np.ndarray, "B n width"]:
    bits = torch.from_numpy(unpack_bytes(rows, parity=network.config.parity))
    predictor = Predictor(network, len(rows))
    log2_likelihood = predictor.read(bits.to(predictor.device)).cpu().numpy()
    require_predictions(log2_likelihood)
    return np.asarray(log2_likelihood.reshape(*rows.shape, -1))
