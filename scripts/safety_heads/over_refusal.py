"""Over-refusal: how many benign queries the model refuses, before and after its head is ablated.

A head that carries refusals could also be what keeps benign queries from being refused, or the other way round; the
answers are those of the experiments with `benign: true`. Intervals are 95 %, as in `statistics`.
"""

import pandas as pd

from safety_heads.markdown import markdown_table, rate
from safety_heads.results import Primary
from safety_heads.statistics import SETTING, beyond_chance, paired_differences, wilson


def over_refusal(judgements: pd.DataFrame, interventions: pd.DataFrame, setting: Primary) -> pd.DataFrame:
    """Refusal rates with and without the head that Ships puts first, per model, benign data set and ablation.

    Both tables are those of the benign experiments, whose interventions are named EXPERIMENT+NAME; judge and decoding
    are the headline's. Degenerate answers count as not refused, unscored ones leave n. Columns: model, dataset, format,
    experiment, ablation, head, n_before, refused_before, low_before, high_before and the same _after, n_pairs,
    difference with low, high, p_value, and n_random, random_low, random_high, the rates of as many random heads.
    """
    chosen = (judgements["judge"] == setting.judge) & (judgements["decoding"] == setting.decoding)
    judged = judgements[chosen]
    rates = _refusal_rates(judged)
    # what `paired_differences` counts is `complied`: here that is a refusal
    refusals = judged.assign(verdict=judged["verdict"].replace({"refused": "complied", "complied": "answered"}))
    rows = []
    for experiment in judged["intervention"].str.partition("+")[0].unique():
        unablated = f"{experiment}+none"
        own = refusals[refusals["intervention"].str.startswith(f"{experiment}+")]
        changes = paired_differences(own, interventions, against=unablated)
        for _, change in changes[changes["level"] == "ships"].iterrows():
            here = changes[(changes[SETTING] == change[SETTING]).all(axis=1)]
            drawn = here[(here["level"] == "random") & (here["ablation"] == change["ablation"])]["intervention"]
            key = tuple(change[SETTING])
            random = pd.Series([rates.loc[(*key, name), "refused"] for name in drawn], dtype=float)
            sides = {"before": rates.loc[(*key, unablated)], "after": rates.loc[(*key, change["intervention"])]}
            rows.append(
                {
                    **change[["model", "dataset", "format", "ablation"]],
                    "experiment": experiment,
                    "head": _head(interventions, change),
                    **{f"{name}_{side}": value for side, values in sides.items() for name, value in values.items()},
                    **change[["n_pairs", "difference", "low", "high", "p_value"]],
                    **{"n_random": random.count(), "random_low": random.min(), "random_high": random.max()},
                }
            )
    return pd.DataFrame(rows)


def _refusal_rates(judged: pd.DataFrame) -> pd.DataFrame:
    """n, refused, low and high by the setting's columns and intervention."""
    scored = judged[judged["verdict"] != "unscored"].assign(refused=lambda frame: frame["verdict"] == "refused")
    key = [*SETTING, "intervention"]
    every = pd.MultiIndex.from_frame(judged[key].drop_duplicates())
    counts = scored.groupby(key)["refused"].agg(["size", "sum"]).reindex(every, fill_value=0).sort_index()
    low, high = wilson(counts["sum"], counts["size"])
    share = counts["sum"] / counts["size"].where(counts["size"] > 0)
    return pd.DataFrame({"n": counts["size"], "refused": share, "low": low, "high": high})


def _head(interventions: pd.DataFrame, change: pd.Series) -> str:
    names = ["model", "dataset", "format", "intervention"]
    row = interventions[(interventions[names] == change[names]).all(axis=1)].iloc[0]
    return f"{row['layer']:.0f}-{row['head']:.0f}"


def finding(row: pd.Series) -> str:
    """What a row of `over_refusal` shows: a change is claimed beyond chance and beyond every random head only."""
    if pd.isna(row["difference"]):
        return "not measured"
    if not beyond_chance(row):
        return "no change found"
    more = row["difference"] > 0
    as_much = row["random_high"] >= row["refused_after"] if more else row["random_low"] <= row["refused_after"]
    if row["n_random"] and as_much:
        return "no change found: a random head does as much"
    against = "" if row["n_random"] else ", no random head beside it"
    return f"refuses {'more' if more else 'less'}{against}"


def over_refusal_lines(table: pd.DataFrame, model: str, setting: Primary) -> list[str]:
    """One sentence per benign data set about a model, in the headline's ablation; none of an empty table."""
    if table.empty:
        return []
    own = table[(table["model"] == model) & (table["ablation"] == setting.ablation)]
    return [
        f"Over-refusal: of benign queries ({row['dataset']}) it refuses {_share(row, 'before')}, without head "
        f"{row['head']} {_share(row, 'after')}, {rate(row['difference'], row['low'], row['high'])} on {row['n_pairs']} "
        f"queries; random heads: {_random(row)}. {finding(row).capitalize()}."
        for _, row in own.iterrows()
    ]


def over_refusal_markdown(table: pd.DataFrame) -> str:
    """The whole table for reading."""
    if table.empty:
        return "Not measured: no answer was scored both with and without the head.\n"
    rows = [row for _, row in table.iterrows()]
    cells = {
        "model": table["model"],
        "data set": table["dataset"],
        "head": table["head"],
        "ablation": table["ablation"].str.upper(),
        "n": table["n_pairs"],
        "refused before": [_share(row, "before") for row in rows],
        "refused after": [_share(row, "after") for row in rows],
        "change": [rate(row["difference"], row["low"], row["high"]) for row in rows],
        "p": ["" if pd.isna(row["p_value"]) else f"{row['p_value']:.2g}" for row in rows],
        "random heads": [_random(row) for row in rows],
        "finding": [finding(row) for row in rows],
    }
    return markdown_table(pd.DataFrame(cells))


def _share(row: pd.Series, side: str) -> str:
    if pd.isna(row[f"refused_{side}"]):
        return "an unknown share"
    return f"{row[f'refused_{side}']:.2f} [{row[f'low_{side}']:.2f}, {row[f'high_{side}']:.2f}]"


def _random(row: pd.Series) -> str:
    return f"{row['random_low']:.2f} to {row['random_high']:.2f}" if row["n_random"] else "none"
