"""Ships, generalised Ships and Sahara against scipy, plain SVDs and brute force."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from safety_heads import models, sahara, scoring, screening
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.shapes import ModelShape
from safety_heads.ships import kl_divergence, refusal_log_odds
from safety_heads.subspace import left_basis, principal_angles
from safety_heads.sweep import plain_readout

UA = Ablation("ua", 1e-5)
HEADS = [Head(layer, head) for layer in range(3) for head in range(4)]
SHAPE = ModelShape(
    n_layers=3, n_heads=4, n_kv_heads=2, d_head=8, d_model=32, d_vocab=77, n_parameters=28192, n_block_weights=7680
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(tiny_models.save("llama-gqa", tmp_path_factory.mktemp("model") / "tiny"))[0]


def random_log_probs(*shape, scale=3.0, seed=0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).log_softmax(-1)


def test_kl_equals_scipys_entropy():
    log_p, log_q = random_log_probs(5, 100), random_log_probs(4, 5, 100, seed=1)
    expected = scipy.stats.entropy(log_p.double().exp().numpy(), log_q.double().exp().numpy(), axis=-1)
    np.testing.assert_allclose(kl_divergence(log_p, log_q), expected, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30))
def test_kl_is_never_negative_and_zero_only_between_equals(seed, scale):
    log_p, log_q = random_log_probs(2, 50, scale=scale, seed=seed)
    assert kl_divergence(log_p, log_q) >= 0
    assert kl_divergence(log_p, log_p) == 0


def test_refusal_log_odds_of_a_hand_made_distribution():
    log_probs = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert refusal_log_odds(log_probs, [0, 3]).item() == pytest.approx(np.log(0.55 / 0.45), rel=1e-6)
    nearly_sure = torch.tensor([40.0, 0.0, 0.0]).log_softmax(-1)  # 1 - p is 0 in single precision
    assert refusal_log_odds(nearly_sure, [0]).item() == pytest.approx(40 - np.log(2), rel=1e-6)


def test_left_basis_spans_the_left_singular_vectors():
    hidden = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    expected = np.linalg.svd(hidden.double().numpy())[0][:, :3]
    found = left_basis(hidden, 3).numpy()
    np.testing.assert_allclose(np.abs((found * expected).sum(0)), 1, rtol=1e-10)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 30.0]))
def test_principal_angles_equal_scipys(seed, rank, distance):
    generator = np.random.default_rng(seed)
    one = np.linalg.qr(generator.normal(size=(12, rank)))[0]
    other = np.linalg.qr(one + distance * generator.normal(size=(12, rank)))[0]
    expected = np.sort(scipy.linalg.subspace_angles(one, other))
    found = principal_angles(torch.tensor(one), torch.tensor(other)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-14)


def test_a_small_angle_keeps_its_digits():
    """arccos of a cosine in double precision ends at 1e-8; the sine does not."""
    angle = 1e-11
    one, other = torch.tensor([[1.0], [0.0]]).double(), torch.tensor([[np.cos(angle)], [np.sin(angle)]])
    assert principal_angles(one, other).item() == pytest.approx(angle, rel=1e-6)


def test_rank_beyond_the_queries_is_refused():
    with pytest.raises(UserError, match="rank 4 is impossible with 3 queries"):
        left_basis(torch.randn(3, 32), 4)


def test_scorer_gives_equations_9_and_11(model):
    prompts = tiny_models.prompts((6, 5, 9, 7), prefix=[5, 6])
    scorer = scoring.Scorer(model, prompts, openings=[10, 11], rank=2)
    readouts = list(scorer.readouts(HEADS, UA))
    ships = pd.concat([scorer.ships(readout, list("abcd")) for readout in readouts], ignore_index=True)
    subspace = pd.concat([scorer.subspace(readout) for readout in readouts], ignore_index=True)
    assert len(ships) == 12 * 4 and len(subspace) == 12
    hidden, log_p = (found.cpu() for found in plain_readout(model, prompts))
    for head in HEADS:
        ablated_hidden, log_q = (found.cpu() for found in plain_readout(model, prompts, [(head, UA)]))
        rows = ships[(ships["layer"] == head.layer) & (ships["head"] == head.head)]
        assert rows["query_id"].tolist() == list("abcd")
        divergence = scipy.stats.entropy(log_p.double().exp(), log_q.double().exp(), axis=-1)
        np.testing.assert_allclose(rows["kl_nats"], divergence, rtol=1e-2, atol=1e-6)
        odds = [
            np.log(p[:, [10, 11]].sum(1)) - np.log1p(-p[:, [10, 11]].sum(1))
            for p in (log_p.double().exp().numpy(), log_q.double().exp().numpy())
        ]
        np.testing.assert_allclose(rows["refusal_logodds_change"], odds[1] - odds[0], atol=1e-4)
        bases = [np.linalg.svd(h.double().numpy())[0][:, :2] for h in (hidden, ablated_hidden)]
        row = subspace[(subspace["layer"] == head.layer) & (subspace["head"] == head.head)].iloc[0]
        np.testing.assert_allclose(row["score_rad"], scipy.linalg.subspace_angles(*bases).sum(), rtol=1e-3, atol=1e-6)
        assert sum(row["angles_rad"]) == pytest.approx(row["score_rad"])


def test_sahara_equals_brute_force(model):
    """Algorithm 1 done naively, with an SVD per candidate group, against the steps of the workflow."""
    prompts, rank = tiny_models.prompts((6, 5, 9, 7, 8)), 2
    base = np.linalg.svd(plain_readout(model, prompts)[0].double().cpu().numpy())[0][:, :rank]

    def score(group):
        hidden = plain_readout(model, prompts, [(head, UA) for head in group])[0]
        return scipy.linalg.subspace_angles(base, np.linalg.svd(hidden.double().cpu().numpy())[0][:, :rank]).sum()

    expected: list[Head] = []
    for _ in range(3):
        expected.append(
            max((head for head in HEADS if head not in expected), key=lambda head: score([*expected, head]))
        )

    steps = pd.DataFrame()
    for step in range(1, 4):
        group = sahara.group(steps) if step > 1 else []
        heads = sahara.candidates(steps, HEADS) if step > 1 else HEADS
        scorer = scoring.Scorer(model, prompts, [(head, UA) for head in group], rank=rank)
        scores = pd.concat([scorer.subspace(readout) for readout in scorer.readouts(heads, UA)])
        steps = pd.concat([steps, scores.assign(step=step)], ignore_index=True)
    assert sahara.group(steps) == expected
    assert len(steps) == 12 + 11 + 10


@given(st.integers(1, 20), st.integers(1, 6), st.data())
def test_shards_deal_out_every_head_once_at_like_cost(n_layers, n_heads, data):
    shape = replace(SHAPE, n_layers=n_layers, n_heads=n_heads)
    n_shards = data.draw(st.integers(1, n_layers))
    shards = [scoring.shard_of(shape, shard, n_shards) for shard in range(1, n_shards + 1)]
    every = [Head(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    assert [head for shard in shards for head in shard] == every
    costs = [sum(n_layers - head.layer for head in shard) for shard in shards]
    assert max(costs) - min(costs) <= 2 * n_layers  # a head is not divided: the dearest has n_layers blocks to run


def test_a_screen_gives_the_best_heads_their_exact_scores(tmp_path):
    folder, prompts = tiny_models.save("llama-mha", tmp_path / "tiny"), tiny_models.prompts((6, 5, 9))
    coarse, exact = (scoring.Scorer(models.load(folder, dtype)[0], prompts) for dtype in ("bfloat16", "float32"))
    first, full = (scoring.score_heads(scorer, HEADS, UA, list("abc")) for scorer in (coarse, exact))
    best = [(head.layer, head.head) for head in screening.best_heads(*first, n=1)]  # a twentieth of 12, by each score
    assert 1 <= len(best) <= 2
    for found, rough, true in zip(
        screening.screen_heads(coarse, exact, HEADS, UA, list("abc")), first, full, strict=True
    ):
        again = pd.Series(list(zip(found["layer"], found["head"], strict=True))).isin(best)
        pd.testing.assert_frame_equal(found[again], true[again], rtol=1e-3, atol=1e-5)
        pd.testing.assert_frame_equal(found[~again], rough[~again], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_shards", [2, 3])
def test_scores_do_not_depend_on_the_number_of_shards(model, n_shards):
    """Ships and generalised Ships of all heads by one job, and by two or three."""
    prompts, ids = tiny_models.prompts(), ["a", "b", "c"]
    whole = scoring.score_heads(scoring.Scorer(model, prompts, openings=[5]), HEADS, UA, ids)
    parts = [
        scoring.score_heads(scoring.Scorer(model, prompts, openings=[5]), heads, UA, ids)
        for heads in (scoring.shard_of(SHAPE, shard, n_shards) for shard in range(1, n_shards + 1))
    ]
    for frames, expected in zip(zip(*parts, strict=True), whole, strict=True):
        keys = [name for name in ("layer", "head", "query_id") if name in expected]
        found = pd.concat(frames).sort_values(keys, ignore_index=True)
        expected = expected.sort_values(keys, ignore_index=True)
        assert len(expected) == len(HEADS) * (len(ids) if "query_id" in keys else 1)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-6)


def test_more_shards_than_layers_are_refused():
    with pytest.raises(UserError, match="shard 1 of 4 is impossible with 3 layers"):
        scoring.shard_of(SHAPE, 1, 4)


def step_scores(step, *scores):
    rows = [{"step": step, "layer": layer, "head": head, "score_rad": score} for layer, head, score in scores]
    return pd.DataFrame(rows).assign(angles_rad=None)


def test_ties_go_to_the_lower_layer_then_head():
    assert sahara.group(step_scores(1, (1, 0, 0.5), (0, 2, 0.5), (0, 1, 0.5), (0, 0, 0.1))) == [Head(0, 1)]


def test_candidates_are_the_best_of_step_1_without_the_chosen():
    scores = pd.concat(
        [step_scores(1, (0, 0, 0.9), (0, 1, 0.8), (0, 2, 0.7), (0, 3, 0.1)), step_scores(2, (0, 2, 1.0))]
    )
    heads = [Head(0, head) for head in range(4)]
    assert sahara.candidates(scores, heads) == [Head(0, 1), Head(0, 3)]
    assert sahara.candidates(scores, heads, limit=3) == [Head(0, 1)]


def test_missing_steps_and_repeated_choices_are_refused():
    with pytest.raises(UserError, match="score every step"):
        sahara.grow(step_scores(2, (0, 0, 0.9)))
    with pytest.raises(UserError, match="scored again"):
        sahara.grow(pd.concat([step_scores(1, (0, 0, 0.9)), step_scores(2, (0, 0, 0.9))]))
