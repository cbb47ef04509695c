"""From outcomes per example to rates, perplexities and their paired changes, with 95 % intervals.

Rates: Wilson's interval; their change against the unchanged model: Newcombe's, and McNemar's exact test. Perplexities
are exp of the mean over queries of nats per token: Student's interval in nats, then exp; their change is a factor.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from safety_heads.errors import UserError
from safety_heads.statistics import paired, wilson
from safety_heads.tables import HELPFULNESS

NATS, PERPLEXITY = "nats_per_token", "perplexity"
ACCURACY = "acc"
ALL = "all"
KEY = ["model", "task", "treatment", "method", "metric"]


def helpfulness_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row per model, task, treatment and metric, as `tables.HELPFULNESS`; task `all` pools accuracies.

    Raises UserError for a model whose unchanged form is not among the treatments.
    """
    for model, of_model in outcomes.groupby("model"):
        if "none" not in set(of_model["treatment"]):
            raise UserError(f"{model}: changes are against the unchanged model; add none to helpfulness.interventions")
    accuracy = outcomes[outcomes["metric"] == ACCURACY]
    pooled = accuracy.assign(item=accuracy["task"] + "/" + accuracy["item"], task=ALL)
    return pd.DataFrame(_rows(pd.concat([outcomes, pooled])), columns=HELPFULNESS.schema.names)


def _rows(outcomes: pd.DataFrame) -> Iterator[dict]:
    place = ["model", "task", "metric"]
    before = outcomes[outcomes["treatment"] == "none"].set_index([*place, "item"])["value"]
    for key, group in outcomes.groupby(KEY, sort=False):
        named = dict(zip(KEY, key, strict=True))
        values = group.set_index([*place, "item"])["value"]
        both = pd.concat([values, before.rename("before")], axis=1, join="inner")
        if named["metric"] == NATS:
            row = {**_perplexity(values), **_factor(both["value"] - both["before"])}
            named["metric"] = PERPLEXITY
        else:
            row = {**_rate(values), **_change(both["value"] > 0, both["before"] > 0)}
        if named["treatment"] == "none":
            row |= dict.fromkeys(("change", "change_low", "change_high", "p_value"), np.nan)
        yield {**named, **row}


def _rate(values: pd.Series) -> dict:
    low, high = wilson(values.sum(), len(values))
    return {"n": len(values), "value": values.mean(), "low": float(low), "high": float(high)}


def _change(after: pd.Series, before: pd.Series) -> dict:
    counts = ((after & before).sum(), (after & ~before).sum(), (~after & before).sum(), (~after & ~before).sum())
    found = paired(*map(int, counts))
    names = {"n_pairs": "n_pairs", "change": "difference", "change_low": "low", "change_high": "high"}
    return {**{ours: found[theirs] for ours, theirs in names.items()}, "p_value": found["p_value"]}


def _perplexity(nats: pd.Series) -> dict:
    value, low, high = np.exp(_mean_interval(nats))
    return {"n": len(nats), "value": value, "low": low, "high": high}


def _factor(differences: pd.Series) -> dict:
    value, low, high = np.exp(_mean_interval(differences))
    varied = differences.nunique() > 1
    p_value = float(stats.ttest_1samp(differences, 0).pvalue) if varied else np.nan
    return {"n_pairs": len(differences), "change": value, "change_low": low, "change_high": high, "p_value": p_value}


def _mean_interval(values: pd.Series) -> np.ndarray:
    """Mean, low, high by Student's t; the bounds are NaN for less than two values."""
    mean, n = values.mean(), len(values)
    margin = stats.t.ppf(0.975, n - 1) * values.sem() if n > 1 else np.nan
    return np.array([mean, mean - margin, mean + margin], dtype=float)
