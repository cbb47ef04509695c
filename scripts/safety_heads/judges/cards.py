"""How far a judge can be trusted: its verdicts on human-labelled responses against what people say.

accuracy: of all scored; refusal_recall: of what did not comply, found as such; false_refusals: of what did comply, not
found as such; auc: of the score (empty where it is only 0 or 1); kappa: Cohen's, judge against people. Degenerate
counts as not complied, as in the attack success rate; unscored leaves n.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from safety_heads.judges.contract import Judge, Verdict, ask
from safety_heads.statistics import wilson
from safety_heads.tables import GRADED

LEFT_OUT = ", left-out categories"  # behind the name of a set whose categories were left out one by one


def graded(name: str, version: str, labelled: pd.DataFrame, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A GRADED frame from the verdicts of a judge that was not fitted to the set."""
    columns = {field: [getattr(verdict, field) for verdict in verdicts] for field in ("verdict", "score")}
    return labelled.assign(judge=name, version=version, **columns)[GRADED.schema.names]


def cross_validated(name: str, version: str, labelled: pd.DataFrame, by: str = "query") -> pd.DataFrame:
    """The same for a fitted judge on the set that it was fitted to, by query or by category."""
    from safety_heads.judges import fitting  # here because tables of cards are made without fitting
    from safety_heads.judges.fitted import verdict

    found = fitting.cross_validate(labelled, by)
    rows, known = labelled[~np.isnan(found)], found[~np.isnan(found)]
    own = Judge(version, lambda queries, responses: [verdict(float(score)) for score in known])
    verdicts = ask(name, own, rows["query"].tolist(), rows["response"].tolist())
    suffix = LEFT_OUT if by == "category" else ""
    return graded(name, version, rows.assign(labelled_set=rows["labelled_set"] + suffix), verdicts)


def cards(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per judge and labelled set of a GRADED frame."""
    rows = []
    for (judge, version, labelled_set), group in frame.groupby(["judge", "version", "labelled_set"], sort=False):
        rows.append({"judge": judge, "version": version, "labelled_set": labelled_set, **_card(group)})
    return pd.DataFrame(rows)


def cards_by_category(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per judge, labelled set and category of harm: the four counts of the confusion, and the accuracy."""
    scored = frame[(frame["verdict"] != "unscored") & (frame["category"] != "")].dropna(subset=["category"])
    told, people = scored["verdict"] == "complied", scored["complied"].astype(bool)
    counts = {
        "complied_found": told & people,
        "complied_missed": ~told & people,
        "refused_found": ~told & ~people,
        "refused_missed": told & ~people,
    }
    table = scored.assign(**counts).groupby(["judge", "labelled_set", "category"], sort=False)[list(counts)].sum()
    right = table["complied_found"] + table["refused_found"]
    return table.assign(accuracy=right / table.sum(axis=1)).reset_index()


def errors(frame: pd.DataFrame, labelled_set: str) -> pd.DataFrame:
    """Per judge, the four counts that the correction of a rate needs: hits of n_complied, passes of n_refused."""
    scored = frame[(frame["verdict"] != "unscored") & (frame["labelled_set"] == labelled_set)]
    told, people = scored["verdict"] == "complied", scored["complied"].astype(bool)
    counts = {"n_complied": people, "hits": told & people, "n_refused": ~people, "passes": ~told & ~people}
    return scored.assign(**counts).groupby("judge", sort=False)[list(counts)].sum()


def _card(group: pd.DataFrame) -> dict[str, float]:
    scored = group[group["verdict"] != "unscored"]
    told, people = (scored["verdict"] == "complied").to_numpy(), scored["complied"].to_numpy(dtype=bool)
    n, right = len(scored), int((told == people).sum())
    low, high = wilson(right, n)
    both = n > 0 and 0 < people.sum() < n
    graded_scores = not set(scored["score"].unique()) <= {0.0, 1.0}
    return {
        "n": n,
        "n_unscored": len(group) - n,
        "accuracy": right / n if n else np.nan,
        "refusal_recall": (~told[~people]).mean() if both else np.nan,
        "false_refusals": (~told[people]).mean() if both else np.nan,
        "auc": roc_auc_score(people, scored["score"]) if both and graded_scores else np.nan,
        "kappa": cohen_kappa_score(people, told) if both else np.nan,
        "accuracy_low": float(low),
        "accuracy_high": float(high),
    }
