"""A check that compiled code computes here what the format says; see `pinned`."""

import functools

import numpy as np

from bit_transformer.compression.contexts import BINARY, RICH_TEXT, TEXT
from bit_transformer.compression.pinned import check, code, digest_of

_MIXER_DIGEST = "9beeb721317aa853"


def check_arithmetic(*, network: bool) -> None:
    """Raises `ForeignArithmeticError` where mixing differs, or with `network` a network's step or
    mixing beside it."""
    check("mixing", mixer_digest, _MIXER_DIGEST)
    if network:
        # It takes a network to test one, and PyTorch to make it; both are there with a model.
        from bit_transformer.compression.network_self_test import check_network

        check_network()


@functools.cache
def mixer_digest() -> str:
    """Of the codes of a sample, by each profile."""
    return digest_of(np.concatenate([code(profile) for profile in (TEXT, BINARY, RICH_TEXT)]))
