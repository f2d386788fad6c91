"""Familiarity F: how common a combination of metrics is in good data.

A loop in prose and a row of zeros in a program can have the same C. The loop is recognised because
such a C does not occur together with its K and T. Each kind of good data forms a cluster in the
space of the metrics, and a mixture of Gaussians finds these clusters without labels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import ConfigError
from bit_transformer.extras import import_extra

INPUTS = ("k", "c", "t", "u")
"""The metrics that F combines. With S the gate caught fewer degenerate windows (`docs/log.md`),
because T and U already contain what S adds."""
_RANKS = (np.arange(200) + 0.5) / 200
"""Ranks at which the quantiles of the density over good data are stored."""
_COMPONENTS = 16
_FIT_ROWS = 30_000
_MIN_EXPONENT = -600.0
"""Bound of the exponent below the lowest quantile, which keeps F above zero."""


class MetricDensity:
    """A mixture of Gaussians over transformed metrics, with its quantiles over good data."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Rebuild a density from `to_dict`. Raises `ConfigError` for anything else."""
        try:
            self.inputs = tuple(parameters["inputs"])
            self._transforms = [_TRANSFORMS[name] for name in self.inputs]
            arrays = {name: np.array(parameters[name], dtype=np.float64) for name in _PARAMETERS}
            if arrays["means"].shape[1:] != (len(self.inputs),):
                raise ValueError(f"means of shape {arrays['means'].shape} for {self.inputs}")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"invalid parameters of a metric density ({error}); calibrate the gate again"
            ) from error
        self._mean, self._scale = arrays["mean"], arrays["scale"]
        self._log_weights, self._means = np.log(arrays["weights"]), arrays["means"]
        self._factors, self._quantiles = arrays["factors"], arrays["ranks"]
        self._parameters = arrays

    @classmethod
    def fit(
        cls, rows: Float[np.ndarray, "n inputs"], *, components: int = _COMPONENTS, seed: int = 0
    ) -> "MetricDensity":
        """Fit the density to metrics of good data, with the columns `INPUTS`.

        Needs scikit-learn (extra `telemetry`).
        """
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
            "ranks": np.zeros(len(_RANKS)),
        }
        unranked = cls(fitted)
        fitted["ranks"] = np.quantile(unranked.log_density(rows), _RANKS)
        return cls(fitted)

    def log_density(self, rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, " n"]:
        """Return the natural logarithm of the density of the transformed metrics."""
        x = (_features(rows, self._transforms) - self._mean) / self._scale
        offsets = x[:, None, :] - self._means
        whitened = np.einsum("nci,cij->ncj", offsets, self._factors)
        log_determinants = np.log(np.diagonal(self._factors, axis1=1, axis2=2)).sum(1)
        exponents = self._log_weights + log_determinants - 0.5 * (whitened**2).sum(2)
        top = exponents.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(exponents - top).sum(1))
        return np.asarray(total - x.shape[1] / 2 * math.log(2 * math.pi))

    def familiarity(self, rows: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, " n"]:
        """Return F in (0, 1]: the share of good data with a lower density than each row.

        Below the lowest stored quantile F falls in proportion to the density.
        """
        found = self.log_density(rows)
        within = np.interp(found, self._quantiles, _RANKS)
        below = _RANKS[0] * np.exp(np.clip(found - self._quantiles[0], _MIN_EXPONENT, 0))
        return np.asarray(np.where(found < self._quantiles[0], below, within))

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON-ready values."""
        arrays = {name: values.tolist() for name, values in self._parameters.items()}
        return {"inputs": list(self.inputs), **arrays}


Transform = Callable[[np.ndarray], np.ndarray]
_PARAMETERS = ("mean", "scale", "weights", "means", "factors", "ranks")
# These scales make the clusters of good data rounder, as a mixture of Gaussians assumes.
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
