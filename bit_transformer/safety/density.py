"""How familiar a set of readings is, taken together.

A loop in prose and a row of zeros in a program may have the same C; what gives the loop away is
that such a C does not go with such a K and T. Each kind of good data is a cloud in the space of the
readings, and a mixture of Gaussians describes the clouds without being told the kinds. Familiarity
F is the share of good readings that are less likely than the ones at hand.
"""

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import ConfigError, MissingExtraError

INPUTS = ("k", "c", "t", "u")
"""Readings that familiarity is of. S is none of them: with it the gate caught fewer degenerate
windows (`docs/log.md`), for what S knows is in T and U."""
_RANKS = 200
_COMPONENTS = 16
_FIT_ROWS = 30_000
_LEAST = -600.0
"""Bound of the exponent below the least likely rank: familiarity stays above zero."""


class ReadingDensity:
    """A mixture of Gaussians over transformed readings, and how it ranks good ones."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Of what `to_dict` gave; raises `ConfigError` for anything else."""
        try:
            arrays = {name: np.array(parameters[name], dtype=np.float64) for name in _PARAMETERS}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"these are no parameters of a reading density: {error}") from error
        self._mean, self._scale = arrays["mean"], arrays["scale"]
        self._log_weights, self._means = np.log(arrays["weights"]), arrays["means"]
        self._factors, self._ranks = arrays["factors"], arrays["ranks"]
        self._parameters = arrays

    @classmethod
    def fit(
        cls, rows: Float[np.ndarray, "n inputs"], *, components: int = _COMPONENTS, seed: int = 0
    ) -> "ReadingDensity":
        """The density of good readings, a row each; fitted by scikit-learn (extra `telemetry`)."""
        rng = np.random.default_rng(seed)
        if len(rows) > _FIT_ROWS:
            rows = rows[rng.choice(len(rows), _FIT_ROWS, replace=False)]
        features = _features(rows)
        mean, scale = features.mean(0), features.std(0) + 1e-9
        mixture = _mixture(components, seed).fit((features - mean) / scale)
        fitted = {
            "mean": mean,
            "scale": scale,
            "weights": mixture.weights_,
            "means": mixture.means_,
            "factors": mixture.precisions_cholesky_,
            "ranks": np.zeros(_RANKS),
        }
        unranked = cls(fitted)
        shares = (np.arange(_RANKS) + 0.5) / _RANKS
        fitted["ranks"] = np.quantile(unranked.log_density(rows), shares)
        return cls(fitted)

    def log_density(self, rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, " n"]:
        """Natural logarithm of the density, in units of the transformed readings."""
        x = (_features(rows) - self._mean) / self._scale
        offsets = x[:, None, :] - self._means
        whitened = np.einsum("nci,cij->ncj", offsets, self._factors)
        log_determinants = np.log(np.diagonal(self._factors, axis1=1, axis2=2)).sum(1)
        exponents = self._log_weights + log_determinants - 0.5 * (whitened**2).sum(2)
        top = exponents.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(exponents - top).sum(1))
        return np.asarray(total - x.shape[1] / 2 * math.log(2 * math.pi))

    def familiarity(self, rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, " n"]:
        """F in (0, 1]: the share of good readings less likely than these.

        Below the least likely two-hundredth it goes on falling in proportion to the density.
        """
        found = self.log_density(rows)
        shares = (np.arange(_RANKS) + 0.5) / _RANKS
        within = np.interp(found, self._ranks, shares)
        below = shares[0] * np.exp(np.clip(found - self._ranks[0], _LEAST, 0))
        return np.asarray(np.where(found < self._ranks[0], below, within))

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON-ready values."""
        return {name: values.tolist() for name, values in self._parameters.items()}


_PARAMETERS = ("mean", "scale", "weights", "means", "factors", "ranks")


def _features(rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n inputs"]:
    """Readings on scales on which good ones lie in rounder clouds."""
    k, c, t, u = np.clip(rows, 0, 1).T
    columns = (
        np.log(np.maximum(1 - k, 1e-3)),
        np.log(c + 0.03),
        np.log(1 / np.maximum(t, 1e-8) - 0.95),
        u,
    )
    return np.stack(columns, axis=1)


def _mixture(components: int, seed: int) -> Any:
    try:
        library = importlib.import_module("sklearn.mixture")
    except ImportError as error:
        raise MissingExtraError(
            "calibrating a gate needs scikit-learn; install bit-transformer[telemetry]"
        ) from error
    return library.GaussianMixture(components, reg_covar=1e-3, random_state=seed)
