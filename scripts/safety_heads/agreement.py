"""How far judges agree, and what a rate would be if its judge never erred.

Cohen's kappa with its asymptotic interval, Fleiss' with a bootstrap over responses (both from statsmodels). A rate is
corrected by Rogan and Gladen's estimator (1978, American Journal of Epidemiology 107:71) with the interval of Lang and
Reiczigel (2014, Preventive Veterinary Medicine 113:13), which counts the judge's error as uncertain too. It holds as
far as the judge errs on the answers of a run as often as on the labelled ones.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa
from statsmodels.stats.multitest import multipletests

from safety_heads.tables import GENERATIONS

ANSWER = list(GENERATIONS.key)
DRAWS, SEED = 500, 0
Z = float(norm.ppf(0.975))


def complied_table(judgements: pd.DataFrame) -> pd.DataFrame:
    """Answers that every judge has scored, in rows, judges in columns (first the headline's): complied or not."""
    scored = judgements[judgements["verdict"] != "unscored"]
    complied = scored.assign(complied=scored["verdict"] == "complied")
    wide = complied.pivot(index=ANSWER, columns="judge", values="complied").dropna()
    return wide[[judge for judge in judgements["judge"].unique() if judge in wide]].astype(bool)


def pairwise(table: pd.DataFrame) -> pd.DataFrame:
    """Every two judges of `complied_table`: one, other, n, both, only_one, only_other, neither, kappa, low, high."""
    rows = []
    for one, other in combinations(table.columns, 2):
        a, b = table[one].to_numpy(), table[other].to_numpy()
        counts = [int(cell.sum()) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)]
        rows.append((one, other, len(table), *counts, *cohen(*counts)))
    names = ["one", "other", "n", "both", "only_one", "only_other", "neither", "kappa", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def cohen(both: int, only_one: int, only_other: int, neither: int) -> tuple[float, float, float]:
    """Cohen's kappa of a 2 x 2 table with its 95 % interval; NaN where it is undefined (all in one cell)."""
    if max(both, neither) == both + only_one + only_other + neither:
        return np.nan, np.nan, np.nan
    found = cohens_kappa(np.array([[both, only_one], [only_other, neither]]))
    return float(found.kappa), float(max(found.kappa_low, -1)), float(min(found.kappa_upp, 1))


def fleiss(table: pd.DataFrame) -> tuple[float, float, float]:
    """Fleiss' kappa of all judges with its 95 % bootstrap interval; NaN for fewer than two judges or answers."""
    if table.shape[1] < 2 or len(table) < 2:
        return np.nan, np.nan, np.nan
    yes = table.sum(axis=1).to_numpy()
    counts = np.stack([yes, table.shape[1] - yes], axis=1)
    rng = np.random.default_rng(SEED)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [fleiss_kappa(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(DRAWS)]
        return float(fleiss_kappa(counts)), *map(float, np.nanquantile(drawn, [0.025, 0.975]))


def rogan_gladen(
    k: float, n: float, hits: float, n_complied: float, passes: float, n_refused: float
) -> tuple[float, float, float]:
    """The corrected rate and its 95 % interval, each within 0 to 1.

    `k` of `n` answers were called complied, by a judge that called `hits` of `n_complied` labelled answers that comply
    so, and passed over `passes` of `n_refused` that do not. NaN if there is nothing to correct or the judge is no
    better than chance.
    """
    if not min(n, n_complied, n_refused) or hits / n_complied + passes / n_refused <= 1:
        return np.nan, np.nan, np.nan
    sensitivity, specificity = hits / n_complied, passes / n_refused
    rate = (k / n + specificity - 1) / (sensitivity + specificity - 1)
    n_z, n_se, n_sp = n + Z**2, n_complied + 2, n_refused + 2
    p, se, sp = (k + Z**2 / 2) / n_z, (hits + 1) / n_se, (passes + 1) / n_sp
    youden = se + sp - 1
    middle = (p + sp - 1) / youden
    v_se, v_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * Z**2 * (middle * v_se - (1 - middle) * v_sp)
    width = Z / youden * np.sqrt(p * (1 - p) / n_z + middle**2 * v_se + (1 - middle) ** 2 * v_sp)
    low, high = np.clip([middle + shift - width, middle + shift + width], 0, 1)
    return float(np.clip(rate, 0, 1)), float(low), float(high)


def corrected(asr: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """`asr` with corrected, corrected_low, corrected_high, by each judge's `cards.errors` (NaN without)."""
    names = ["hits", "n_complied", "passes", "n_refused"]
    found = []
    for row in asr.itertuples():
        counts = errors.loc[row.judge, names] if row.judge in errors.index else [0] * 4
        found.append(rogan_gladen(row.n_complied, row.n, *map(float, counts)))
    columns = ["corrected", "corrected_low", "corrected_high"]
    return asr.join(pd.DataFrame(found, columns=columns, index=asr.index))


def q_values(p_values: pd.Series) -> pd.Series:
    """Benjamini and Hochberg's q-values of one family of tests; NaN where there is no p."""
    tested = p_values.dropna()
    found = multipletests(tested, method="fdr_bh")[1] if len(tested) else []
    return pd.Series(found, index=tested.index, dtype=float).reindex(p_values.index)
