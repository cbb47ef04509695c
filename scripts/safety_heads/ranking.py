"""Which heads score highest. Light to import, for the programs that run models need no statistics."""

import pandas as pd


def top_heads(scores: pd.DataFrame, column: str, k: int) -> set[tuple[int, int]]:
    """The k heads (layer, head) with the highest `column`; ties go to the lower layer, then head."""
    ranked = scores.sort_values([column, "layer", "head"], ascending=[False, True, True])
    return set(zip(ranked["layer"].head(k), ranked["head"].head(k), strict=True))


def mean_ships(ships: pd.DataFrame) -> pd.DataFrame:
    """Ships and its sign per head, averaged over queries (paper, eq. 9)."""
    keys = ["model", "dataset", "format", "ablation", "layer", "head"]
    return ships.groupby(keys, sort=False, as_index=False)[["kl_nats", "refusal_logodds_change"]].mean()
