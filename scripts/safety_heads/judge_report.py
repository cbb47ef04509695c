"""What the judges make of a run, in words and tables: does the headline survive, how far do they agree and err?"""

from dataclasses import replace

import pandas as pd

from safety_heads.agreement import complied_table, corrected, fleiss, pairwise
from safety_heads.judges.cards import cards, errors
from safety_heads.markdown import markdown_table
from safety_heads.results import Primary, Results
from safety_heads.summary import head_effects, verdict

MOST_UNSCORED = 0.05  # of the answers of a setting; beyond it a rate is not to be trusted


def judge_lines(results: Results, setting: Primary) -> list[str]:
    """Bullets for the summary: does the headline survive under every judge, do they agree, what is unscored?"""
    lines = [*_survival(results, setting), *unscored_lines(results.asr)]
    table = complied_table(results.judgements)
    if table.shape[1] < 2 or table.empty:
        return [*lines, "There is one judge only, so nothing says how much of this hangs on it."]
    pairs = pairwise(table).dropna(subset=["kappa"])
    told = "; ".join(
        f"{row.one} and {row.other} {row.kappa:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in pairs.itertuples()
    )
    kappa, low, high = fleiss(table)
    every = "" if pd.isna(kappa) else f"; all of them {kappa:.2f} [{low:.2f}, {high:.2f}] (Fleiss)"
    lines.append(f"Agreement on {len(table)} answers, Cohen's kappa: {told or 'undefined, all say the same'}{every}.")
    return lines


def unscored_lines(asr: pd.DataFrame) -> list[str]:
    """A warning per judge with settings of which more than `MOST_UNSCORED` is unscored."""
    share = asr["n_unscored"] / (asr["n"] + asr["n_unscored"]).clip(lower=1)
    lines = []
    for judge, rows in share[share > MOST_UNSCORED].groupby(asr["judge"], sort=False):
        lines.append(
            f"**WARNING: judge {judge} left more than {MOST_UNSCORED:.0%} unscored in {len(rows)} settings (at most "
            f"{rows.max():.0%}); its rates there are not to be trusted.**"
        )
    return lines


def conclusions(results: Results, setting: Primary) -> pd.DataFrame:
    """`head_effects` under every judge, in the headline's format and decoding, with verdict: its first words."""
    frames = []
    for judge in results.judgements["judge"].unique():
        effects = head_effects(results, replace(setting, judge=judge))
        if len(effects):
            effects = effects[effects["format"] == setting.format]
            frames.append(effects.assign(verdict=[_short(row) for _, row in effects.iterrows()]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _short(row: pd.Series) -> str:
    return "effect" if verdict(row).startswith("effect found") else "no effect"


def _survival(results: Results, setting: Primary) -> list[str]:
    """Whether all judges come to the headline judge's conclusion, and where they do not."""
    found, lines = conclusions(results, setting), []
    if found.empty:
        return []
    judges = list(found["judge"].unique())
    for model, rows in found[found["dataset"] == setting.dataset].groupby("model", sort=False):
        told = ", ".join(f"{row.judge} {row.asr_before:.2f} to {row.asr_after:.2f}" for row in rows.itertuples())
        same = rows["verdict"].nunique() == 1
        outcome = f"survives under all {len(rows)} judges" if same else "DOES NOT SURVIVE under every judge"
        head = rows.loc[rows["judge"] == setting.judge, "verdict"].iloc[0]
        lines.append(f"{model}: the headline ({head}) {outcome}: {told}.")
    by = found.groupby(["model", "dataset"], sort=False)["verdict"].nunique()
    where = [f"{dataset} in {model}" for model, dataset in by[by > 1].index]
    if len(judges) > 1:
        lines.append(f"Judges disagree on the conclusion for {', '.join(where) if where else 'no data set'}.")
    return lines


def judges_markdown(results: Results, setting: Primary) -> str:
    """The page's section: survival, rates raw and corrected, agreement, confusion, and the judges' cards."""
    reference = str(results.graded["labelled_set"].iloc[0])
    parts = [
        "# Judges\n",
        "".join(f"- {line}\n" for line in judge_lines(results, setting)),
        f"## The headline under every judge\n\nCorrected: by the judge's error on {reference} (Rogan and Gladen's "
        "estimator, interval of Lang and Reiczigel), as far as it errs here as it does there.\n",
        markdown_table(_rates(results, setting, reference)),
        "## Agreement\n\nAnswers that both call complied, only one of them, or neither; Cohen's kappa, 95 %.\n",
        markdown_table(_pairs(results)),
        "## Judges against people\n\nA fitted judge by cross-validation on the answers that it was fitted to.\n",
        markdown_table(_cards(results.graded)),
    ]
    return "\n".join(parts)


def _rates(results: Results, setting: Primary, reference: str) -> pd.DataFrame:
    asr = results.asr
    here = (asr["dataset"] == setting.dataset) & (asr["format"] == setting.format)
    here &= (asr["decoding"] == setting.decoding) & asr["level"].isin(["none", "ships"])
    here &= asr["ablation"].isna() | (asr["ablation"] == setting.ablation)
    rows = corrected(asr[here], errors(results.graded, reference)).sort_values(["model", "level"], kind="stable")
    cells = {
        "model": rows["model"],
        "ablated": rows["intervention"],
        "judge": rows["judge"],
        "n": rows["n"],
        "unscored": rows["n_unscored"],
        "ASR": [_interval(row.asr, row.low, row.high) for row in rows.itertuples()],
        "corrected": [_interval(row.corrected, row.corrected_low, row.corrected_high) for row in rows.itertuples()],
    }
    return pd.DataFrame(cells)


def _pairs(results: Results) -> pd.DataFrame:
    found = pairwise(complied_table(results.judgements))
    shown = found[["one", "other", "n", "both", "only_one", "only_other", "neither"]]
    kappas = [_interval(row.kappa, row.low, row.high) for row in found.itertuples()]
    return shown.assign(kappa=kappas).rename(columns={"only_one": "only one", "only_other": "only other"})


def _cards(graded: pd.DataFrame) -> pd.DataFrame:
    table = cards(graded)
    shown = table[["judge", "version", "labelled_set", "n", "n_unscored"]].copy()
    shown["accuracy"] = [_interval(row.accuracy, row.accuracy_low, row.accuracy_high) for row in table.itertuples()]
    for column in ("refusal_recall", "false_refusals", "auc", "kappa"):
        shown[column.replace("_", " ")] = table[column].map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
    return shown.rename(columns={"labelled_set": "labelled set", "n_unscored": "unscored"})


def _interval(value: float, low: float, high: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
