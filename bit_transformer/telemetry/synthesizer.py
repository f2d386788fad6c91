"""Clusters of the sequences that a model has seen, and the drift between two runs.

A sequence is summarised by its K, C, S and attention entropy and, where they were recorded, by the
mean and deviation of its activations in every layer. scikit-learn (extra `telemetry`) clusters the
summaries by k-means and finds the directions along which each cluster varies by PCA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bit_transformer.errors import ConfigError, InvalidPredictionError, require
from bit_transformer.extras import import_extra

_SCALARS = (
    "negentropy_input",
    "lz_complexity_input",
    "negentropy_logits",
    "lz_complexity_logits",
    "symbiosis_score",
    "attention_entropy_mean",
)
_EXPLAINED = 0.9
"""Share of a cluster's variance that its subspace explains."""


@dataclass(frozen=True)
class Subspace:
    """The directions along which the summaries of a cluster vary."""

    directions: Float[np.ndarray, "d features"]
    """Orthonormal directions, as few as explain 90 % of the variance."""
    explained: Float[np.ndarray, " d"]
    """Share of the variance along each direction."""


@dataclass(frozen=True)
class Synthesis:
    """Clusters of sequences. Fields can also be read as items: `synthesis["representatives"]`."""

    cluster_assignments: list[int]
    """Cluster of each sequence."""
    representatives: list[list[int]]
    """Bits of the sequence nearest to each cluster's centre."""
    representative_indices: list[int]
    """Indices of those sequences."""
    summaries: Float[np.ndarray, "sequences features"]
    """The clustered summaries, in the units of the metrics."""
    centers: Float[np.ndarray, "clusters features"]
    """Mean summary of each cluster, in the same units."""
    subspaces: list[Subspace]
    """Subspace of each cluster."""
    silhouette: float | None
    """Separation of the clusters, -1 to 1 (Rousseeuw 1987). None for a single cluster."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def cluster_sequences(self, sequences: Sequence[Any]) -> list[list[Any]]:
        """Group sequences by cluster. Their order is that of the clustered sequences."""
        if len(sequences) != len(self.cluster_assignments):
            raise ConfigError(
                f"{len(self.cluster_assignments)} sequences were clustered, got {len(sequences)}; "
                "pass the same sequences"
            )
        pairs = list(zip(self.cluster_assignments, sequences, strict=True))
        clusters = range(len(self.centers))
        return [[sequence for label, sequence in pairs if label == one] for one in clusters]


@dataclass(frozen=True)
class SynthesisDrift:
    """Differences between the clusters of two runs."""

    matches: list[tuple[int, int]]
    """Pairs of a cluster of the first and of the second run, with the least total distance."""
    distances: Float[np.ndarray, " pairs"]
    """Root mean square distance of the centres of each pair. The unit of a feature is its deviation
    within the first run's clusters."""
    angles: list[Float[np.ndarray, " _"]]
    """Principal angles between the subspaces of each pair, in degrees."""


class TelemetrySynthesizer:
    """Clusters sequences by a model's telemetry."""

    def __init__(self, n_clusters: int = 2, *, seed: int = 0) -> None:
        """`seed` makes k-means reproducible. Raises `ConfigError` for fewer than one cluster."""
        require(n_clusters >= 1, "n_clusters", n_clusters, "at least 1")
        self._clusters, self._seed = n_clusters, seed

    def synthesize(
        self, telemetries: Sequence[Mapping[str, Tensor]], bit_seqs: Sequence[Any]
    ) -> Synthesis:
        """Cluster the sequences of some calls `_, telemetry = model(bits)`.

        Each telemetry may describe a batch. `bit_seqs` lists all sequences in the same order, each
        an iterable of 0/1. Activations are included where the telemetries hold them, which needs a
        model built with `log_activations=True`.

        Raises `ConfigError` when telemetries and `bit_seqs` differ in number or there are fewer
        distinct sequences than clusters, `InvalidPredictionError` for metrics that are not finite.
        """
        rows = [_summaries(telemetry) for telemetry in telemetries]
        summaries = np.concatenate(rows) if rows else np.zeros((0, 0))
        if len(summaries) != len(bit_seqs):
            raise ConfigError(
                f"the telemetries describe {len(summaries)} sequences, but bit_seqs holds "
                f"{len(bit_seqs)}; pass one for each"
            )
        if len(bit_seqs) < self._clusters:
            raise ConfigError(
                f"{self._clusters} clusters need at least {self._clusters} sequences, got "
                f"{len(bit_seqs)}; pass more sequences or choose fewer clusters"
            )
        if not np.isfinite(summaries).all():
            raise InvalidPredictionError(
                "a metric is not finite, so its sequence cannot be clustered; the model's weights "
                "are damaged: load a good checkpoint"
            )
        distinct = len(np.unique(summaries, axis=0))
        if distinct < self._clusters:
            raise ConfigError(
                f"{self._clusters} clusters need as many distinct sequences, got {distinct}; "
                "pass other sequences or choose fewer clusters"
            )
        return self._cluster(summaries, [[int(bit) for bit in sequence] for sequence in bit_seqs])

    def _cluster(
        self, summaries: Float[np.ndarray, "sequences features"], sequences: list[list[int]]
    ) -> Synthesis:
        scaled = (summaries - summaries.mean(0)) / (summaries.std(0) + 1e-9)
        kmeans = _sklearn("cluster").KMeans(self._clusters, n_init=10, random_state=self._seed)
        labels = kmeans.fit_predict(scaled)
        distances = ((scaled[None] - kmeans.cluster_centers_[:, None]) ** 2).sum(-1)
        # The sequence nearest to a centre may belong to another cluster, whose centre is nearer.
        distances[labels[None] != np.arange(self._clusters)[:, None]] = np.inf
        nearest = distances.argmin(1)
        members = [summaries[labels == one] for one in range(self._clusters)]
        several = 1 < len(set(labels)) < len(labels)
        silhouette = _sklearn("metrics").silhouette_score(scaled, labels) if several else None
        return Synthesis(
            cluster_assignments=labels.tolist(),
            representatives=[sequences[index] for index in nearest],
            representative_indices=nearest.tolist(),
            summaries=summaries,
            centers=np.stack([rows.mean(0) for rows in members]),
            subspaces=[_subspace(scaled[labels == one]) for one in range(self._clusters)],
            silhouette=None if silhouette is None else float(silhouette),
        )


def drift_between(first: Synthesis, second: Synthesis) -> SynthesisDrift:
    """Match the clusters of two syntheses and measure how far they moved.

    Raises `ConfigError` when the syntheses have different numbers of features.
    """
    if first.centers.shape[1] != second.centers.shape[1]:
        raise ConfigError(
            f"the syntheses have {first.centers.shape[1]} and {second.centers.shape[1]} features; "
            "use the same telemetry and the same number of layers for both"
        )
    within = first.summaries - first.centers[first.cluster_assignments]
    spread = within.std(0) + 1e-9
    offsets = (first.centers[:, None] - second.centers[None]) / spread
    distances = np.sqrt((offsets**2).mean(-1))
    rows, columns = _scipy("optimize").linear_sum_assignment(distances)
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    angles = [_angles(first.subspaces[one], second.subspaces[two]) for one, two in pairs]
    return SynthesisDrift(pairs, distances[rows, columns], angles)


def _summaries(telemetry: Mapping[str, Tensor]) -> Float[np.ndarray, "B features"]:
    columns = [telemetry[name].double()[:, None] for name in _SCALARS]
    if "activations" in telemetry:
        layers = telemetry["activations"].double()
        columns += [part.transpose(0, 1).flatten(1) for part in _moments(layers)]
    found: np.ndarray = torch.cat(columns, dim=1).cpu().numpy()
    return found


def _moments(layers: Float[Tensor, "L B S D"]) -> tuple[Tensor, Tensor]:
    # Without Bessel's correction, so that the deviation of a single position is 0, not NaN.
    return layers.mean(2), layers.std(2, correction=0)


def _subspace(rows: Float[np.ndarray, "n features"]) -> Subspace:
    if len(rows) < 2 or not (rows != rows[0]).any():
        return Subspace(np.zeros((0, rows.shape[1])), np.zeros(0))
    fitted = _sklearn("decomposition").PCA(svd_solver="full").fit(rows)
    count = int(np.searchsorted(fitted.explained_variance_ratio_.cumsum(), _EXPLAINED)) + 1
    return Subspace(fitted.components_[:count], fitted.explained_variance_ratio_[:count])


def _angles(one: Subspace, two: Subspace) -> Float[np.ndarray, " d"]:
    if not len(one.directions) or not len(two.directions):
        return np.zeros(0)
    radians = _scipy("linalg").subspace_angles(one.directions.T, two.directions.T)
    return np.degrees(radians)


def _sklearn(part: str) -> Any:
    return _library(f"sklearn.{part}", "scikit-learn")


def _scipy(part: str) -> Any:
    return _library(f"scipy.{part}", "scipy")


def _library(name: str, package: str) -> Any:
    return import_extra(name, package, extra="telemetry", purpose="clustering telemetry")
