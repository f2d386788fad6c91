"""What kinds of sequences a model sees: clusters of activation summaries, and what spans them.

Each sequence is summarised by the mean and deviation of its activations in every layer and by its
K, C, S and attention entropy. scikit-learn (extra `telemetry`) finds the clusters (k-means), the
sequence that stands for each, and the few directions that a cluster varies along (PCA).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bit_transformer.errors import ConfigError, InvalidPredictionError
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


@dataclass(frozen=True)
class Subspace:
    """The directions along which the summaries of a cluster vary."""

    directions: Float[np.ndarray, "d features"]
    """Orthonormal; as few as explain nine tenths of the variance."""
    explained: Float[np.ndarray, " d"]
    """Share of the variance along each."""


@dataclass(frozen=True)
class Synthesis:
    """Clusters of sequences. Also a mapping: `synthesis["representatives"]`."""

    cluster_assignments: list[int]
    """Cluster of each sequence."""
    representatives: list[list[int]]
    """Bits of the sequence nearest to each centre."""
    representative_indices: list[int]
    """Which sequences those are."""
    summaries: Float[np.ndarray, "sequences features"]
    """What was clustered, in the units of the readings."""
    centers: Float[np.ndarray, "clusters features"]
    """Mean summary of each cluster, in the same units."""
    subspaces: list[Subspace]
    """Of each cluster."""
    silhouette: float | None
    """How well the clusters are apart, -1 to 1 (Rousseeuw 1987); None for a single cluster."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def cluster_sequences(self, sequences: Sequence[Any]) -> list[list[Any]]:
        """The given sequences by cluster, in their order."""
        if len(sequences) != len(self.cluster_assignments):
            raise ConfigError(
                f"{len(self.cluster_assignments)} sequences were clustered, got {len(sequences)}; "
                "give the same ones"
            )
        pairs = list(zip(self.cluster_assignments, sequences, strict=True))
        clusters = range(len(self.centers))
        return [[sequence for label, sequence in pairs if label == one] for one in clusters]


@dataclass(frozen=True)
class SynthesisDrift:
    """How the clusters of two runs differ."""

    matches: list[tuple[int, int]]
    """Clusters of the first and of the second run that belong together: least total distance."""
    distances: Float[np.ndarray, " pairs"]
    """Between their centres, each feature in units of its deviation within the first's clusters."""
    angles: list[Float[np.ndarray, " _"]]
    """Principal angles between their subspaces, in degrees; 0: they vary in the same way."""


class TelemetrySynthesizer:
    """Clusters what a model reports of many sequences."""

    def __init__(self, n_clusters: int = 2, *, seed: int = 0) -> None:
        """Raises `ConfigError` for fewer than one cluster."""
        if n_clusters < 1:
            raise ConfigError(f"n_clusters must be at least 1, got {n_clusters}")
        self._clusters, self._seed = n_clusters, seed

    def synthesize(
        self, telemetries: Sequence[Mapping[str, Tensor]], bit_seqs: Sequence[Any]
    ) -> Synthesis:
        """Clusters of the sequences behind some calls `_, telemetry = model(bits)`.

        A telemetry may be of a batch; `bit_seqs` are all the sequences in their order, each an
        iterable of 0/1. Activations are used where the telemetries hold them (a model built with
        `log_activations=True`).

        Raises `ConfigError` when there are fewer sequences than clusters or their number is not
        that of the telemetries, `InvalidPredictionError` for readings that are NaN.
        """
        rows = [_summaries(telemetry) for telemetry in telemetries]
        summaries = np.concatenate(rows) if rows else np.zeros((0, 0))
        if len(summaries) != len(bit_seqs):
            raise ConfigError(
                f"the telemetries are of {len(summaries)} sequences, got {len(bit_seqs)} of bits; "
                "give one for each"
            )
        if len(bit_seqs) < self._clusters:
            raise ConfigError(
                f"{self._clusters} clusters need at least as many sequences, got {len(bit_seqs)}; "
                "give more sequences or ask for fewer clusters"
            )
        if not np.isfinite(summaries).all():
            raise InvalidPredictionError(
                "a reading is not a finite number, so nothing can be near it; load a good "
                "checkpoint"
            )
        distinct = len(np.unique(summaries, axis=0))
        if distinct < self._clusters:
            raise ConfigError(
                f"{self._clusters} clusters need as many sequences that differ, {distinct} do; "
                "give others or ask for fewer clusters"
            )
        return self._cluster(summaries, [[int(bit) for bit in sequence] for sequence in bit_seqs])

    def _cluster(
        self, summaries: Float[np.ndarray, "sequences features"], sequences: list[list[int]]
    ) -> Synthesis:
        scaled = (summaries - summaries.mean(0)) / (summaries.std(0) + 1e-9)
        means = _sklearn("cluster").KMeans(self._clusters, n_init=10, random_state=self._seed)
        labels = means.fit_predict(scaled)
        distances = ((scaled[None] - means.cluster_centers_[:, None]) ** 2).sum(-1)
        # The point nearest to a centre may belong to another that is nearer still.
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
    """What has moved between two syntheses of the same features.

    Raises `ConfigError` when their features differ in number.
    """
    if first.centers.shape[1] != second.centers.shape[1]:
        raise ConfigError(
            f"the runs were summarised by {first.centers.shape[1]} and {second.centers.shape[1]} "
            "features; synthesize both with the same telemetry and the same number of layers"
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
    # Without Bessel's correction: a single position has a deviation too, 0.
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
    return import_extra(name, package, extra="telemetry", purpose="synthesizing telemetry")
