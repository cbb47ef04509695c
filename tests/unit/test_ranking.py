"""Rankings of heads and how sure they are."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from safety_heads import ranking
from safety_heads.errors import UserError


def test_top_heads_break_ties_by_place():
    scores = pd.DataFrame({"layer": [1, 0, 2], "head": [0, 1, 0], "score_rad": [1.0, 0.5, 2.0]})
    assert ranking.top_heads(scores, "score_rad", 2) == {(2, 0), (1, 0)}
    tied = scores.assign(score_rad=1.0)
    assert ranking.ranked_heads(tied, "score_rad") == [(0, 1), (1, 0), (2, 0)]


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_rank_biased_overlap_is_its_definition(one, other):
    p, n = ranking.PERSISTENCE, len(one)
    agreement = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, n + 1)]
    extrapolated = agreement[-1] * p**n + (1 - p) / p * sum(a * p**d for d, a in enumerate(agreement, start=1))
    assert ranking.rank_biased_overlap(one, other) == pytest.approx(extrapolated)
    assert ranking.rank_biased_overlap(one, one) == pytest.approx(1)
    assert ranking.rank_biased_overlap(one, other) == pytest.approx(ranking.rank_biased_overlap(other, one))


def test_chance_is_the_mean_over_all_rankings():
    values = [ranking.rank_biased_overlap(range(5), order) for order in permutations(range(5))]
    assert np.mean(values) == pytest.approx(ranking.chance_rank_biased_overlap(5))


def test_rankings_of_different_heads_are_refused():
    with pytest.raises(UserError, match="same heads"):
        ranking.rank_biased_overlap([1, 2], [1, 3])


def ships(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"query_id": query, "layer": 0, "head": head, "kl_nats": value}
        for query, of_query in values.items()
        for head, value in enumerate(of_query)
    )


def test_bootstrap_tells_how_often_a_head_is_first():
    sure = ranking.bootstrap_firsts(ships({"a": [1, 0, 0], "b": [2, 1, 0]}))
    assert sure.to_dict() == {(0, 0): 1.0}
    # Head 0 is first unless query b is drawn twice, which happens in a quarter of the draws.
    torn = ranking.bootstrap_firsts(ships({"a": [3, 0, 0], "b": [0, 2, 0]}), n_draws=20000)
    assert torn[(0, 0)] == pytest.approx(0.75, abs=0.02) and torn[(0, 1)] == pytest.approx(0.25, abs=0.02)


def test_kendalls_w_agrees_with_friedmans_statistic():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 12))
    means = pd.DataFrame(
        {"dataset": f"d{d}", "layer": h // 4, "head": h % 4, "kl_nats": scores[d, h]}
        for d in range(3)
        for h in range(12)
    )
    expected = friedmanchisquare(*scores.T).statistic / (3 * 11)
    assert ranking.kendalls_w(means) == pytest.approx(expected)
    assert np.isnan(ranking.kendalls_w(means[means["dataset"] == "d0"]))
    same = pd.concat([means[means["dataset"] == "d0"].assign(dataset=name) for name in "ab"])
    assert ranking.kendalls_w(same) == pytest.approx(1)
