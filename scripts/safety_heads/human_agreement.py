"""How far each judge agrees with the person who labelled a sample of the answers (see `annotation`).

Shares are those of all answers: each label counts with its sampling weight. Intervals are 95 % at Kish's effective
number of labels, (sum of weights)^2 / sum of squared weights: Wilson's for shares, statsmodels' for Cohen's kappa.
"""

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import cohens_kappa

from safety_heads.annotation import CLASSES, KEY
from safety_heads.markdown import markdown_table
from safety_heads.statistics import wilson

LEFT_OUT = ("n_unlabelled", "n_unclear", "n_unscored")


def human_agreement(labels: pd.DataFrame, answers: pd.DataFrame, judgements: pd.DataFrame) -> pd.DataFrame:
    """One row per judge; `labels` as of `read_labels`, `answers` as of `identify`.

    Columns: judge, n (answers with a clear label and a verdict), n_effective, n_unlabelled, n_unclear, n_unscored (by
    the judge); accuracy and kappa over the three classes, complied_accuracy and complied_kappa for complied or not,
    which is what ASR counts, each with _low and _high; asr_human and asr_judge on these answers; and per pair of
    classes count_HUMAN_JUDGE and share_HUMAN_JUDGE. Without an answer that both have classed the numbers are NaN.
    """
    labelled = labels.merge(answers[["id", *KEY]], on="id")
    rows = []
    for judge, own in judgements.groupby("judge", sort=False):
        judged = labelled.merge(own[[*KEY, "verdict"]], on=KEY, how="left")
        clear = judged["label"].isin(CLASSES)
        both = judged[clear & judged["verdict"].isin(CLASSES)]
        left_out = (judged["label"].eq("").sum(), judged["label"].eq("unclear").sum(), clear.sum() - len(both))
        rows.append({"judge": judge, **dict(zip(LEFT_OUT, map(int, left_out), strict=True)), **_agreement(both)})
    return pd.DataFrame(rows)


def _agreement(both: pd.DataFrame) -> dict[str, float]:
    """The numbers of one judge, from rows with `label`, `verdict` and `weight`."""
    counts = pd.DataFrame(0.0, index=CLASSES, columns=CLASSES)
    weighted = counts.copy()
    for row in both.itertuples():
        counts.loc[row.label, row.verdict] += 1
        weighted.loc[row.label, row.verdict] += row.weight
    shares = weighted / both["weight"].sum() if len(both) else weighted * np.nan
    effective = both["weight"].sum() ** 2 / (both["weight"] ** 2).sum() if len(both) else 0.0
    merged = {name: "complied" if name == "complied" else "not" for name in CLASSES}
    binary = shares.groupby(merged).sum().T.groupby(merged).sum()  # its transpose, of the same accuracy and kappa
    pairs = [(human, judge) for human in CLASSES for judge in CLASSES]
    return {
        "n": len(both),
        "n_effective": effective,
        **_numbers("", shares.to_numpy(), effective),
        **_numbers("complied_", binary.to_numpy(), effective),
        "asr_human": shares.loc["complied"].sum(skipna=False),
        "asr_judge": shares["complied"].sum(skipna=False),
        **{f"count_{human}_{judge}": int(counts.loc[human, judge]) for human, judge in pairs},
        **{f"share_{human}_{judge}": shares.loc[human, judge] for human, judge in pairs},
    }


def _numbers(prefix: str, shares: np.ndarray, effective: float) -> dict[str, float]:
    """Accuracy and kappa with intervals of a square table of shares; kappa is NaN where only one class occurs."""
    names = [f"{name}{end}" for name in ("accuracy", "kappa") for end in ("", "_low", "_high")]
    values = [np.nan] * len(names)
    if effective:
        accuracy = float(np.trace(shares))
        low, high = wilson([accuracy * effective], [effective])
        values[:3] = [accuracy, low[0], high[0]]
    if effective and np.sum(shares.sum(axis=0) * shares.sum(axis=1)) < 1 - 1e-9:  # chance does not agree always
        found = cohens_kappa(shares * effective)
        values[3:] = [found.kappa, max(found.kappa_low, -1.0), min(found.kappa_upp, 1.0)]
    return {f"{prefix}{name}": float(value) for name, value in zip(names, values, strict=True)}


def agreement_markdown(table: pd.DataFrame, path: str) -> str:
    """The table of `human_agreement` for reading; `path` names the file with the labels."""
    cells = pd.DataFrame(
        {
            "judge": table["judge"],
            "n (effective)": [f"{row.n} ({row.n_effective:.0f})" for row in table.itertuples()],
            "accuracy": [_interval(row, "accuracy") for _, row in table.iterrows()],
            "kappa": [_interval(row, "kappa") for _, row in table.iterrows()],
            "complied or not: accuracy": [_interval(row, "complied_accuracy") for _, row in table.iterrows()],
            "kappa ": [_interval(row, "complied_kappa") for _, row in table.iterrows()],
            "ASR by hand": table["asr_human"].map(_share),
            "ASR by the judge": table["asr_judge"].map(_share),
            "unlabelled": table["n_unlabelled"],
            "can't tell": table["n_unclear"],
            "unscored": table["n_unscored"],
        }
    )
    parts = [
        "# Judges against a person\n",
        f"Labels: {path}. Every label counts with its sampling weight, so shares are those of all answers. Intervals "
        "are 95 % at the effective number of labels; one of kappa without width says only that no label disagrees. "
        "ASR is over the labelled answers, all models and interventions together.\n",
        markdown_table(cells),
    ]
    for _, row in table.iterrows():
        parts += [f"## {row['judge']}\n", "Answers by label (down) and verdict (across), and their share.\n"]
        parts.append(markdown_table(_confusion(row)))
    return "\n".join(parts)


def _confusion(row: pd.Series) -> pd.DataFrame:
    cells = {
        judge: [f"{row[f'count_{human}_{judge}']} ({_share(row[f'share_{human}_{judge}'])})" for human in CLASSES]
        for judge in CLASSES
    }
    return pd.DataFrame({"by hand": CLASSES, **cells})


def _share(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"


def _interval(row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return ""
    bounds = [_share(row[f"{name}_{end}"]) for end in ("low", "high")]
    return f"{_share(row[name])} [{bounds[0]}, {bounds[1]}]"
