"""Score all heads in bfloat16, and the best tenth again in full precision.

Where the processor computes in bfloat16, that takes half the time. Scores of the best heads are those of the full
sweep; the others' carry bfloat16's noise, which is why they are not among the best.
"""

import math
from collections.abc import Sequence

import pandas as pd

from safety_heads.heads import Ablation, Head
from safety_heads.ranking import PLACE, top_heads
from safety_heads.scoring import Scorer, score_heads

SHARE = 0.05  # of the heads, by either score: together the best tenth


def screen_heads(
    coarse: Scorer, exact: Scorer, heads: Sequence[Head], ablation: Ablation, query_ids: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `score_heads`, by `coarse`, and the best tenth by `exact`."""
    first = score_heads(coarse, heads, ablation, query_ids)
    best = best_heads(*first, n=math.ceil(SHARE * len(heads)))
    again = score_heads(exact, best, ablation, query_ids)
    return tuple(_replaced(*pair) for pair in zip(first, again, strict=True))


def best_heads(ships: pd.DataFrame, subspace: pd.DataFrame, n: int) -> list[Head]:
    """The `n` heads with the highest mean Ships and the `n` that turn the data set most; between n and 2 n."""
    mean = ships.groupby(PLACE, as_index=False)["kl_nats"].mean()
    found = top_heads(mean, "kl_nats", n) | top_heads(subspace, "score_rad", n)
    return sorted(Head(*place) for place in found)


def _replaced(first: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """`first` with the rows of `again` in the place of the same heads'."""
    others = first[~first.set_index(PLACE).index.isin(again.set_index(PLACE).index)]
    return pd.concat([others, again]).sort_values(PLACE, kind="stable", ignore_index=True)
