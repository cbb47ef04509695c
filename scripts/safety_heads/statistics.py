"""From judgements to attack success rates, with intervals, paired differences and chance levels.

ASR = complied / judged (paper, appendix B); on benign data sets the same share says how much is answered.
All intervals are 95 %: Wilson's for one rate; Newcombe's hybrid score interval for a difference on the same
queries (method 10 of Newcombe 1998, Statistics in Medicine 17:2635), built from the two Wilson intervals, so that
it keeps an honest width when no query changes. McNemar's exact test gives p.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import hypergeom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from safety_heads.errors import UserError
from safety_heads.judges.contract import VERDICTS
from safety_heads.ranking import chance_rank_biased_overlap, rank_biased_overlap, ranked_heads
from safety_heads.tables import ASR, INTERVENTIONS

SETTING = ["model", "dataset", "format", "decoding", "judge"]
TRAITS = ["ablation", "level", "size", "draw"]
SIGNIFICANT = 0.05
_INTERVENTION = ["model", "dataset", "format", "intervention"]


def asr_table(judgements: pd.DataFrame, interventions: pd.DataFrame, head_shares: Mapping[str, float]) -> pd.DataFrame:
    """The rate of every (model, dataset, format, decoding, intervention, judge), with columns as `tables.ASR`.

    Unscored responses leave n; degenerate ones count as not complied. With n = 0 the rate and its interval are NaN.
    `head_shares` gives, per model, the share of the parameters that one ablated head is.
    Raises UserError for a judged intervention that no interventions table holds, or a model without a share.
    """
    tally = {f"n_{verdict}": judgements["verdict"] == verdict for verdict in VERDICTS}
    groups = judgements[list(ASR.key)].assign(**tally).groupby(list(ASR.key), sort=False)
    counts = groups[list(tally)].sum().reset_index()
    counts["n"] = counts["n_complied"] + counts["n_refused"] + counts["n_degenerate"]
    frame = counts.merge(intervention_traits(interventions), on=_INTERVENTION, how="left", indicator=True)
    unknown = frame[frame.pop("_merge") == "left_only"]
    if len(unknown):
        row = unknown.iloc[0]
        where = f"model {row['model']!r}, dataset {row['dataset']!r}, format {row['format']!r}"
        raise UserError(f"judged intervention {row['intervention']!r} ({where}) is in no interventions table; add it")
    low, high = wilson(frame["n_complied"], frame["n"])
    rate = frame["n_complied"] / frame["n"].where(frame["n"] > 0)
    if missing := set(frame["model"]) - set(head_shares):
        raise UserError(f"no manifest is given for model {min(missing)!r}; describe it again")
    share = frame["size"] * frame["model"].map(head_shares)
    return frame.assign(asr=rate, low=low, high=high, parameters_share=share)[ASR.schema.names]


def intervention_traits(interventions: pd.DataFrame) -> pd.DataFrame:
    """One row per intervention with its ablation, level, size and draw.

    Raises UserError naming an intervention whose rows disagree.
    """
    traits = interventions[[*_INTERVENTION, *TRAITS]].drop_duplicates()
    twice = traits.duplicated(_INTERVENTION)
    if twice.any():
        row = traits[twice].iloc[0]
        name = f"{row['intervention']!r} ({row['model']!r}, {row['dataset']!r}, {row['format']!r})"
        raise UserError(f"{INTERVENTIONS.name}: rows of {name} differ in {', '.join(TRAITS)}; delete it and run again")
    return traits


def wilson(successes: pd.Series, trials: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval for each pair of counts; NaN where there were no trials."""
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    low, high = proportion_confint(k, np.where(n > 0, n, 1.0), method="wilson")
    return np.where(n > 0, np.clip(low, 0, 1), np.nan), np.where(n > 0, np.clip(high, 0, 1), np.nan)


def paired_differences(judgements: pd.DataFrame, interventions: pd.DataFrame, against: str = "none") -> pd.DataFrame:
    """Change of ASR against one intervention over the queries that both have scored, one row per other intervention.

    Columns: the setting, intervention and its traits, n_pairs, gained (newly complied), lost, difference, low, high,
    p_value. Without a common scored query the numbers are NaN.
    """
    scored = judgements[judgements["verdict"] != "unscored"]
    scored = scored.assign(complied=scored["verdict"] == "complied")
    complied = scored[[*SETTING, "intervention", "query_id", "complied"]]
    before = complied[complied["intervention"] == against].drop(columns="intervention")
    pairs = complied.merge(before, on=[*SETTING, "query_id"], suffixes=("", "_before"), how="left")
    rows = []
    for key, group in pairs.groupby([*SETTING, "intervention"], sort=False):
        if key[-1] == against:
            continue
        both = group.dropna(subset=["complied_before"])
        after, base = both["complied"].astype(bool), both["complied_before"].astype(bool)
        counts = ((after & base).sum(), (after & ~base).sum(), (~after & base).sum(), (~after & ~base).sum())
        rows.append({**dict(zip([*SETTING, "intervention"], key, strict=True)), **paired(*map(int, counts))})
    columns = [*SETTING, "intervention", *paired(1, 0, 0, 0)]
    return pd.DataFrame(rows, columns=columns).merge(intervention_traits(interventions), on=_INTERVENTION, how="left")


def paired(both: int, gained: int, lost: int, neither: int) -> dict[str, float]:
    """Of n paired answers: n_pairs, gained, lost, difference with Newcombe's low and high, McNemar's exact p_value."""
    n = both + gained + lost + neither
    counts = {"n_pairs": n, "gained": gained, "lost": lost}
    if n == 0:
        return {**counts, **dict.fromkeys(("difference", "low", "high", "p_value"), np.nan)}
    low, high = newcombe(both, gained, lost, neither)
    p_value = float(mcnemar([[both, lost], [gained, neither]], exact=True).pvalue)
    return {**counts, "difference": (gained - lost) / n, "low": low, "high": high, "p_value": p_value}


def beyond_chance(change: pd.Series, p: str = "p_value") -> bool:
    """Whether a paired change may be claimed: its interval excludes 0, and the exact test's `p` is small enough.

    On few queries one can do so without the other, for Newcombe's interval is an approximation.
    """
    return not change["low"] <= 0 <= change["high"] and change[p] <= SIGNIFICANT


def newcombe(both: int, gained: int, lost: int, neither: int) -> tuple[float, float]:
    """Newcombe's interval (method 10) for (gained - lost) / n on n paired answers."""
    n = both + gained + lost + neither
    p_after, p_before = (both + gained) / n, (both + lost) / n
    (low_after, high_after), (low_before, high_before) = (
        proportion_confint(count, n, method="wilson") for count in (both + gained, both + lost)
    )
    margins = float(both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    covariance = both * neither - gained * lost
    corrected = max(covariance - n / 2, 0) if covariance > 0 else covariance
    phi = corrected / np.sqrt(margins) if margins > 0 else 0.0
    down, up = p_after - low_after, high_before - p_before
    below = np.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0))
    up, down = high_after - p_after, p_before - low_before
    above = np.sqrt(max(up**2 - 2 * phi * up * down + down**2, 0))
    difference = p_after - p_before
    return float(max(difference - below, -1)), float(min(difference + above, 1))


def chance_overlap(n_heads: int, k: int) -> tuple[float, int, int]:
    """Heads that two random choices of k among `n_heads` share: mean k^2 / n_heads, and the 95 % range."""
    if not 0 < k <= n_heads:
        raise UserError(f"the overlap of the top {k} among {n_heads} heads is asked; choose 1 to {n_heads}")
    shared = hypergeom(n_heads, k, k)
    return float(shared.mean()), int(shared.ppf(0.025)), int(shared.ppf(0.975))


def overlaps(subspace: pd.DataFrame, across: str, k: int) -> pd.DataFrame:
    """Heads shared among the top k of step 1 by every two values of `across`, "ablation" or "model", all else equal.

    Columns: one, other (the two values), the remaining setting, shared, p_value (hypergeometric: as many or more by
    chance), `chance_overlap`'s expected, low, high, and rbo, the rank-biased overlap of all heads, with its rbo_chance.
    Models without the same layers and heads are not compared; the frame is empty if nothing is.
    """
    setting = [column for column in ("model", "dataset", "format", "ablation") if column != across]
    rows = []
    for key, group in subspace[subspace["step"] == 1].groupby(setting, sort=False):
        for one, other in combinations(group[across].unique(), 2):
            frames = [group[group[across] == value] for value in (one, other)]
            ranked = [ranked_heads(frame, "score_rad") for frame in frames]
            if set(ranked[0]) == set(ranked[1]):
                rows.append((one, other, *key, *_overlap(*ranked, k)))
    names = ["shared", "p_value", "expected", "low", "high", "rbo", "rbo_chance"]
    return pd.DataFrame(rows, columns=["one", "other", *setting, *names])


def _overlap(one: Sequence[tuple], other: Sequence[tuple], k: int) -> tuple:
    n, shared = len(one), len(set(one[:k]) & set(other[:k]))
    expected = chance_overlap(n, k)
    p_value = float(hypergeom(n, k, k).sf(shared - 1))
    return shared, p_value, *expected, rank_biased_overlap(one, other), chance_rank_biased_overlap(n)
