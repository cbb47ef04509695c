"""Which heads score highest, and how sure that is. Light to import: the programs that run models use it too."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from safety_heads.errors import UserError

PERSISTENCE = 0.9  # of rank-biased overlap: the top ten ranks carry 86 % of the weight
PLACE = ["layer", "head"]


def top_heads(scores: pd.DataFrame, column: str, k: int) -> set[tuple[int, int]]:
    """The k heads (layer, head) with the highest `column`; ties go to the lower layer, then head."""
    return set(ranked_heads(scores, column)[:k])


def ranked_heads(scores: pd.DataFrame, column: str) -> list[tuple[int, int]]:
    """All heads (layer, head), the highest `column` first; ties go to the lower layer, then head."""
    ranked = scores.sort_values([column, *PLACE], ascending=[False, True, True])
    return list(zip(ranked["layer"], ranked["head"], strict=True))


def mean_ships(ships: pd.DataFrame) -> pd.DataFrame:
    """Ships and its sign per head, averaged over queries (paper, eq. 9)."""
    keys = ["model", "dataset", "format", "ablation", *PLACE]
    return ships.groupby(keys, sort=False, as_index=False)[["kl_nats", "refusal_logodds_change"]].mean()


def rank_biased_overlap(one: Sequence, other: Sequence, persistence: float = PERSISTENCE) -> float:
    """How alike two rankings of the same things are, early ranks weighing most: 1 = the same, extrapolated beyond the
    last rank (Webber, Moffat and Zobel 2010, eq. 32).

    Raises UserError unless both rank the same things.
    """
    if set(one) != set(other):
        raise UserError("rank-biased overlap compares two rankings of the same heads; these differ")
    place = {item: rank for rank, item in enumerate(other)}
    complete = np.sort([max(rank, place[item]) for rank, item in enumerate(one)])  # where both have had the item
    shared = np.searchsorted(complete, np.arange(len(one)), side="right")
    return _weighted(shared / np.arange(1, len(one) + 1), persistence)


def chance_rank_biased_overlap(n: int, persistence: float = PERSISTENCE) -> float:
    """What two random rankings of `n` things give on average: at depth d they share d^2 / n."""
    return _weighted(np.arange(1, n + 1) / n, persistence)


def _weighted(agreement: np.ndarray, persistence: float) -> float:
    weights = persistence ** np.arange(len(agreement))
    return float((1 - persistence) * (weights * agreement).sum() + persistence ** len(agreement) * agreement[-1])


def bootstrap_firsts(ships: pd.DataFrame, n_draws: int = 1000, seed: int = 0) -> pd.Series:
    """How often each head has the highest mean Ships when the queries are drawn anew, by (layer, head), most first.

    `ships` holds one setting. With one query there is nothing to draw, and its first head is first always.
    """
    by_query = ships.pivot(index="query_id", columns=PLACE, values="kl_nats")
    n = len(by_query)
    draws = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=n_draws)
    firsts = (draws @ by_query.to_numpy()).argmax(axis=1)
    return by_query.columns[firsts].value_counts(normalize=True)


def kendalls_w(means: pd.DataFrame) -> float:
    """Kendall's coefficient of concordance of the data sets' rankings of heads: 0 = no agreement, 1 = the same.

    `means` is `mean_ships` of one model, format and ablation. NaN for a single data set. Ties share their mean rank.
    """
    ranks = means.pivot(index=PLACE, columns="dataset", values="kl_nats").rank()
    n, m = ranks.shape
    if m < 2:
        return float("nan")
    return float(12 * ((ranks.sum(axis=1) - m * (n + 1) / 2) ** 2).sum() / (m**2 * (n**3 - n)))
