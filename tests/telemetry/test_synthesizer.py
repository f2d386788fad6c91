"""Planted clusters are found, and a run does not drift from itself."""

import dataclasses

import numpy as np
import pytest
import torch

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.telemetry.synthesizer import Synthesis, TelemetrySynthesizer, drift_between
from tests.builders import tiny_model

NAMES = (
    "negentropy_input",
    "lz_complexity_input",
    "negentropy_logits",
    "lz_complexity_logits",
    "symbiosis_score",
    "attention_entropy_mean",
)


def _planted(kinds: list[int], seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Return one telemetry per sequence. The level of every metric is the sequence's kind."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {name: kind + 0.05 * torch.randn(1, generator=generator) for name in NAMES}
        for kind in kinds
    ]


def _synthesis(kinds: list[int], seed: int = 0, clusters: int = 3) -> Synthesis:
    bits = [[kind, 1, index % 2] for index, kind in enumerate(kinds)]
    return TelemetrySynthesizer(clusters).synthesize(_planted(kinds, seed), bits)


KINDS = [0, 1, 2] * 20


def test_planted_clusters_are_recovered():
    found = _synthesis(KINDS)
    assert len({*zip(KINDS, found.cluster_assignments, strict=True)}) == 3
    assert found.silhouette is not None
    assert found.silhouette > 0.9


def test_a_representative_is_a_sequence_of_its_cluster():
    found = _synthesis(KINDS)
    for cluster, index in enumerate(found["representative_indices"]):
        assert found.cluster_assignments[index] == cluster
        assert found["representatives"][cluster][0] == KINDS[index]
    grouped = found.cluster_sequences(KINDS)
    assert sorted(map(len, grouped)) == [20, 20, 20]
    assert all(len(set(group)) == 1 for group in grouped)


def test_a_coherent_subspace_is_the_planted_direction():
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(60):
        level = torch.randn(1, generator=generator)
        noise = {name: 0.01 * torch.randn(1, generator=generator) for name in NAMES}
        rows.append(noise | {"symbiosis_score": level, "negentropy_input": level})
    found = TelemetrySynthesizer(1).synthesize(rows, [[0]] * 60)
    assert found.silhouette is None
    summary = TelemetrySynthesizer(1)._cluster(found.summaries, [[0]] * 60)
    first = summary.subspaces[0].directions[0]
    assert abs(first[0]) == pytest.approx(abs(first[4]), abs=0.1)


def test_a_run_does_not_differ_from_itself_and_does_from_another():
    first, again, moved = _synthesis(KINDS), _synthesis(KINDS, seed=1), _synthesis([5, 6, 7] * 20)
    itself = drift_between(first, first)
    assert itself.distances.max() == 0
    assert max(angles.max() for angles in itself.angles) < 1e-4
    assert drift_between(first, again).distances.max() < 1
    assert drift_between(first, moved).distances.min() > 20


def test_real_telemetry_with_and_without_activations(generator):
    bits = torch.cat((torch.zeros(4, 64), torch.randint(0, 2, (4, 64), generator=generator))).long()
    sizes = []
    for logged in (False, True):
        model = tiny_model(log_activations=logged)
        telemetries = [model(half)[1] for half in bits.split(4)]
        found = TelemetrySynthesizer(2).synthesize(telemetries, bits.tolist())
        assert len(set(found.cluster_assignments[:4])) == 1
        assert set(found.cluster_assignments[:4]) != set(found.cluster_assignments[4:])
        sizes.append(found.centers.shape[1])
    assert sizes == [6, 6 + 2 * 3 * 16]


def test_sequences_of_one_position_have_no_deviation():
    rows = [
        row | {"activations": torch.full((3, 1, 1, 2), float(kind))}
        for kind, row in enumerate(_planted([0, 1]))
    ]
    assert np.isfinite(TelemetrySynthesizer(2).synthesize(rows, [[0], [1]]).centers).all()


def test_bad_input_is_refused():
    synthesizer = TelemetrySynthesizer(2)
    with pytest.raises(ConfigError, match="pass one for each"):
        synthesizer.synthesize(_planted([0, 1]), [[0]])
    with pytest.raises(ConfigError, match="fewer clusters"):
        synthesizer.synthesize(_planted([0]), [[0]])
    same = [{name: torch.ones(4) for name in NAMES}]
    with pytest.raises(ConfigError, match="distinct sequences, got 1"):
        synthesizer.synthesize(same, [[0]] * 4)
    with pytest.raises(ConfigError, match="n_clusters"):
        TelemetrySynthesizer(0)
    broken = [{name: torch.tensor([np.nan]) for name in NAMES}, *_planted([0])]
    with pytest.raises(InvalidPredictionError):
        synthesizer.synthesize(broken, [[0], [1]])
    found = _synthesis(KINDS)
    narrow = {"summaries": found.summaries[:, :3], "centers": found.centers[:, :3]}
    other = dataclasses.replace(found, **narrow, subspaces=[])
    with pytest.raises(ConfigError, match="features"):
        drift_between(found, other)
    with pytest.raises(KeyError):
        found["nothing"]
    with pytest.raises(ConfigError):
        found.cluster_sequences([1])
