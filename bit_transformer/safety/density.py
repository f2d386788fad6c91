"""How familiar a set of readings is, taken together.

A loop in prose and a row of zeros in a program may have the same C; what gives the loop away is
that such a C does not go with such a K and T. Each kind of good data is a cloud in the space of the
readings, and a mixture of Gaussians describes the clouds without being told the kinds. Familiarity
F is the share of good readings that are less likely than the ones at hand.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import ConfigError
from bit_transformer.extras import import_extra

INPUTS = ("k", "c", "t", "u")
"""Readings that familiarity is of. S is none of them: with it the gate caught fewer degenerate
windows (`docs/log.md`), for what S knows is in T and U."""
_SHARES = (np.arange(200) + 0.5) / 200
"""Shares of good readings at which their density is remembered."""
_COMPONENTS = 16
_FIT_ROWS = 30_000
_LEAST = -600.0
"""Bound of the exponent below the least likely rank: familiarity stays above zero."""


class ReadingDensity:
    """A mixture of Gaussians over transformed readings, and how it ranks good ones."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Of what `to_dict` gave; raises `ConfigError` for anything else."""
        try:
            self.inputs = tuple(parameters["inputs"])
            self._transforms = [_TRANSFORMS[name] for name in self.inputs]
            arrays = {name: np.array(parameters[name], dtype=np.float64) for name in _PARAMETERS}
            if arrays["means"].shape[1:] != (len(self.inputs),):
                raise ValueError(f"means of shape {arrays['means'].shape} for {self.inputs}")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"these are no parameters of a reading density ({error}); calibrate the gate anew"
            ) from error
        self._mean, self._scale = arrays["mean"], arrays["scale"]
        self._log_weights, self._means = np.log(arrays["weights"]), arrays["means"]
        self._factors, self._ranks = arrays["factors"], arrays["ranks"]
        self._parameters = arrays

    @classmethod
    def fit(
        cls, rows: Float[np.ndarray, "n inputs"], *, components: int = _COMPONENTS, seed: int = 0
    ) -> "ReadingDensity":
        """The density of good readings, a row each with the columns `INPUTS`; fitted by
        scikit-learn (extra `telemetry`)."""
        rng = np.random.default_rng(seed)
        if len(rows) > _FIT_ROWS:
            rows = rows[rng.choice(len(rows), _FIT_ROWS, replace=False)]
        features = _features(rows, [_TRANSFORMS[name] for name in INPUTS])
        mean, scale = features.mean(0), features.std(0) + 1e-9
        mixture = _mixture(components, seed).fit((features - mean) / scale)
        fitted = {
            "inputs": INPUTS,
            "mean": mean,
            "scale": scale,
            "weights": mixture.weights_,
            "means": mixture.means_,
            "factors": mixture.precisions_cholesky_,
            "ranks": np.zeros(len(_SHARES)),
        }
        unranked = cls(fitted)
        fitted["ranks"] = np.quantile(unranked.log_density(rows), _SHARES)
        return cls(fitted)

    def log_density(self, rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, " n"]:
        """Natural logarithm of the density, in units of the transformed readings."""
        x = (_features(rows, self._transforms) - self._mean) / self._scale
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
        within = np.interp(found, self._ranks, _SHARES)
        below = _SHARES[0] * np.exp(np.clip(found - self._ranks[0], _LEAST, 0))
        return np.asarray(np.where(found < self._ranks[0], below, within))

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON-ready values."""
        arrays = {name: values.tolist() for name, values in self._parameters.items()}
        return {"inputs": list(self.inputs), **arrays}


Transform = Callable[[np.ndarray], np.ndarray]
_PARAMETERS = ("mean", "scale", "weights", "means", "factors", "ranks")


# Scales on which good readings lie in rounder clouds.
_TRANSFORMS: dict[str, Transform] = {
    "k": lambda k: np.log(np.maximum(1 - k, 1e-3)),
    "c": lambda c: np.log(c + 0.03),
    "t": lambda t: np.log(1 / np.maximum(t, 1e-8) - 0.95),
    "u": lambda u: u,
}


def _features(
    rows: Float[np.ndarray, "n inputs"], transforms: Sequence[Transform]
) -> Float[np.ndarray, "n inputs"]:
    columns = zip(transforms, np.clip(rows, 0, 1).T, strict=True)
    return np.stack([transform(column) for transform, column in columns], axis=1)


def _mixture(components: int, seed: int) -> Any:
    library = import_extra(
        "sklearn.mixture", "scikit-learn", extra="telemetry", purpose="calibrating a gate"
    )
    return library.GaussianMixture(components, reg_covar=1e-3, random_state=seed)
