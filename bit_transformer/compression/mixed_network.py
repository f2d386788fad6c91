"""A network and the context mixer, mixed bit by bit: a source of predictions like a network alone.

The network's log-odds are one more input of the mixer, as in Knoll's cmix. The network is static:
reading changes nothing in it. The mixer is adaptive: it learns from every byte after it has
predicted the byte. A figure of the mix is therefore adaptive too, and must be called so beside the
static figure of the network.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from bit_transformer.compression.block import table_bits_for
from bit_transformer.compression.config import DEFAULT_CONFIG
from bit_transformer.compression.mixer import BYTE_BITS, Mixer, new_mixer
from bit_transformer.errors import ConfigError, UnsupportedCombination
from bit_transformer.inference.predictor import Predictor, log2_likelihood, require_predictions
from bit_transformer.inference.score import (
    AdaptiveScore,
    Surprisals,
    Waiting,
    adaptive_score,
    scoring_window,
    stream_likelihood,
)
from bit_transformer.inference.watch import likelihood_logits
from bit_transformer.model.bit_tree import patch_bits
from bit_transformer.model.transformer import BitTransformer


class MixedNetwork:
    """A network with a context mixer beside it.

    Every sequence begins with a copy of the mixer, so that sequences do not change each other.
    """

    def __init__(self, network: BitTransformer, mixer: Mixer) -> None:
        """Raises `ConfigError` for a mixer without room for a network."""
        if not mixer.network:
            raise ConfigError(
                "this mixer has no input for a network; make it with network=True or new_mixer"
            )
        self.network, self.config, self.mixer = network, network.config, mixer

    def predictor(self, batch_size: int = 1) -> "MixedPredictor":
        """Return a predictor of a new sequence.

        Raises `ConfigError` for a batch, and `UnsupportedCombination` for patches that cross bytes.
        """
        if batch_size != 1:
            raise ConfigError(
                f"the mixer reads one sequence, got a batch of {batch_size}; pass them one by one"
            )
        if BYTE_BITS % self.config.patch_size and not self.config.parity:
            raise UnsupportedCombination(
                f"the mixer predicts the bits of one byte, but patches of {self.config.patch_size} "
                "bits cross bytes; use a model with a patch_size of 1, 2, 4 or 8, or no mixer"
            )
        return MixedPredictor(self.network, self.mixer.copy())

    def score(
        self,
        data: bytes | bytearray | memoryview | UInt8[np.ndarray, " n"],
        *,
        window_bytes: int | None = None,
        overlap_bytes: int | None = None,
    ) -> AdaptiveScore:
        """Return the static and the adaptive score of the same bytes. Arguments and errors are
        those of `score_bytes`."""
        return adaptive_score(
            self.network,
            data,
            self.surprisal,
            window_bytes=window_bytes,
            overlap_bytes=overlap_bytes,
        )

    def surprisal(
        self,
        pieces: Iterable[UInt8[np.ndarray, " _"]],
        *,
        window_bytes: int | None = None,
        overlap_bytes: int | None = None,
    ) -> Iterator[Surprisals]:
        """Yield the surprisal of every byte of data that comes in pieces of any size.

        The network reads windows as in `stream_surprisal`; the mixer reads the whole sequence.
        """
        window, overlap = scoring_window(self.network, window_bytes, overlap_bytes)
        mixer, waiting = self.mixer.copy(), Waiting()
        stretches = stream_likelihood(self.network, waiting.remember(pieces), window, overlap)
        for likelihood in stretches:
            values = waiting.take(len(likelihood))
            bits = np.unpackbits(values)
            # A parity bit is certain, and the mixer does not read it.
            known = np.ascontiguousarray(likelihood[:, :BYTE_BITS]).ravel()
            log_odds = likelihood_logits(bits, known).astype(np.float32)
            mixed = log2_likelihood(
                torch.from_numpy(mixer.read(bits, log_odds))[None], torch.from_numpy(bits)[None]
            )
            yield Surprisals(-likelihood.sum(-1), -mixed.numpy().reshape(-1, BYTE_BITS).sum(-1))


class MixedPredictor:
    """Reads one sequence with a network and a mixer. `predictor.PatchPredictor` is its protocol.

    The mixer learns from each byte once it is complete, so `node_logits` has what `read` returns
    for any value of the current byte.
    """

    def __init__(self, network: BitTransformer, mixer: Mixer) -> None:
        """`mixer` is changed by what is read."""
        self._network, self._mixer = Predictor(network), mixer
        self.config, self.device = network.config, torch.device("cpu")
        self._node_logits: Tensor | None = None
        self._require_next()

    def _require_next(self) -> None:
        """The mixer would turn NaN into an ordinary prediction, so the network's are checked."""
        require_predictions(self._network.node_logits[:, 1:].float().cpu().numpy())

    @property
    def prefix(self) -> Integer[Tensor, "1 r"]:
        """The bits read so far of the current patch."""
        return self._network.prefix.cpu()

    @property
    def node_logits(self) -> Float[Tensor, "1 nodes"]:
        """Log-odds of a one at each inner node of the current patch. Nodes that the known bits
        exclude have those of the network."""
        if self._node_logits is None:
            logits = self._network.node_logits[0].float().cpu().numpy().copy()
            root = 1
            for bit in self._network.prefix[0].tolist():
                root = 2 * root + bit
            below = _subtree(root, min(self.config.patch_size, BYTE_BITS))
            if len(below) > 1:
                logits[below[1:]] = self._mixer.node_log_odds(logits[below])[1:]
            self._node_logits = torch.from_numpy(logits)[None]
        return self._node_logits

    def read(self, bits: Integer[Tensor, "1 T"]) -> Float[Tensor, "1 T"]:
        """Read bits and return log2 of the probability of each, given all bits before it."""
        width = self.config.bits_per_byte
        begun = self._mixer.bits_read % BYTE_BITS
        if self.config.parity:
            begun = self._network.prefix.shape[1]
        places = (begun + np.arange(bits.shape[1])) % width
        network = self._network.read_logits(bits.to(self._network.device))[0].float().cpu().numpy()
        require_predictions(network)
        self._require_next()
        row = bits[0].cpu().numpy().astype(np.uint8)
        data = places < BYTE_BITS
        log_odds = network.copy()
        log_odds[data] = self._mixer.read(row[data], network[data])
        self._node_logits = None
        return log2_likelihood(torch.from_numpy(log_odds)[None], bits.cpu())

    def push(self, patches: Integer[Tensor, "1 N"]) -> Float[Tensor, "1 T"]:
        """Read whole patches and return log2 of the probability of each of their bits."""
        return self.read(patch_bits(patches.cpu(), self.config.patch_size))


def mixed(
    network: BitTransformer,
    *,
    given: bytes = b"",
    sample: bytes = b"",
    table_bits: int = DEFAULT_CONFIG.table_bits,
    mixer: Mixer | None = None,
) -> MixedNetwork:
    """Return the network with a mixer that has learned the bytes `given`.

    The mixer begins as a copy of `mixer`, such as a saved one, or else untrained. `sample` is the
    beginning of the data, which decides between contexts for text and for other data where nothing
    is given. The table of an untrained mixer has 2**table_bits entries of 64 bytes.
    """
    dictionary = np.frombuffer(given, np.uint8)
    if mixer is None:
        like = dictionary if len(dictionary) else np.frombuffer(sample, np.uint8)
        mixer = new_mixer(like, table_bits=table_bits, network=True)
    elif len(dictionary):
        mixer = mixer.copy()
    if len(dictionary):
        mixer.learn(dictionary)
    return MixedNetwork(network, mixer)


def table_bits_of(data_bytes: int | None) -> int:
    """Return the size of the table for a mixer that will read this much, None for any amount."""
    if data_bytes is None:
        return DEFAULT_CONFIG.table_bits
    return min(table_bits_for(data_bytes), DEFAULT_CONFIG.table_bits)


def _subtree(root: int, depth: int) -> Integer[np.ndarray, " nodes"]:
    """Return the nodes of a patch tree that lie below `root`, as a tree of their own: entry i is
    its i-th node, and entry 0 is unused."""
    left = depth - (root.bit_length() - 1)
    levels = [(root << level) + np.arange(1 << level) for level in range(max(left, 0))]
    return np.concatenate([np.zeros(1, np.int64), *levels])
