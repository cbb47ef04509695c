"""The results in a few lines per model: which head, how small, what its removal does, is it more than chance.

An effect is claimed only if the 95 % interval of the paired change excludes 0, McNemar's exact test agrees (its q-value
over all settings is at most 0.05), *and* no random head does as much; else the summary says "no effect found". The
paper's Ships has no sign, so the sign is told apart.
"""

import pandas as pd

from safety_heads.agreement import q_values
from safety_heads.errors import UserError
from safety_heads.manifests import head_share, head_weights
from safety_heads.markdown import markdown_table, rate
from safety_heads.over_refusal import over_refusal_lines, over_refusal_markdown
from safety_heads.ranking import bootstrap_firsts, kendalls_w, mean_ships
from safety_heads.results import Primary, Results, harmful_datasets
from safety_heads.statistics import SETTING, beyond_chance, overlaps, paired_differences

TOP = 10


def write_summary(results: Results, setting: Primary, refusals: pd.DataFrame | None = None) -> str:
    """The whole summary as Markdown; `refusals` is a table of `over_refusal`."""
    effects = head_effects(results, setting)
    parts = [
        "# Summary\n",
        f"Headline setting: {setting.dataset}, {setting.format} format, ablation {setting.ablation.upper()}, "
        f"{setting.decoding} decoding, judge {setting.judge}. Intervals are 95 %.\n",
    ]
    for model in results.ships["model"].unique():
        if model not in results.manifests:
            raise UserError(f"no manifest is given for model {model!r}; describe it again")
        own = effects[effects["model"] == model]
        lines = [*_head_lines(results, setting, results.manifests[model]), *_effect_lines(own, setting)]
        lines += over_refusal_lines(refusals, model, setting) if refusals is not None else []
        table = markdown_table(_effect_table(own)) if len(own) else ""
        parts += [f"## {model}\n", "".join(f"- {line}\n" for line in lines), table]
    if refusals is not None:
        parts += ["## Over-refusal\n", "Benign queries, with and without the head; heads of the headline's data set.\n"]
        parts.append(over_refusal_markdown(refusals))
    parts += ["## Shared heads\n", "".join(f"- {line}\n" for line in _overlap_lines(results, setting))]
    return "\n".join(parts)


def head_effects(results: Results, setting: Primary) -> pd.DataFrame:
    """What ablating the head that Ships puts first does, per model, harmful data set and format.

    Columns: the setting, head, n, the rates before and after with intervals, change with interval, p_value and
    q_value (Benjamini and Hochberg, over all rows), and the lowest and highest rate of the random draws (NaN without
    any).
    """
    chosen = (results.judgements["decoding"] == setting.decoding) & (results.judgements["judge"] == setting.judge)
    changes = paired_differences(results.judgements[chosen], results.interventions)
    single = (changes["level"] == "ships") & (changes["ablation"] == setting.ablation) & (changes["size"] == 1)
    changes = changes[single & changes["dataset"].isin(harmful_datasets(results))]
    rates = results.asr.set_index([*SETTING, "intervention"])[["n", "asr", "low", "high"]].sort_index()
    rows = []
    for _, row in changes.iterrows():
        key = tuple(row[SETTING])
        here = results.asr[(results.asr[SETTING] == list(key)).all(axis=1)]
        random = here[(here["level"] == "random") & (here["size"] == 1) & (here["ablation"] == setting.ablation)]["asr"]
        before, after = rates.loc[(*key, "none")], rates.loc[(*key, row["intervention"])]
        counts = row[[*SETTING, "intervention", "n_pairs", "difference", "low", "high", "p_value"]].to_dict()
        sides = {"before": before, "after": after}
        both = {f"{name}_{side}": value[name] for side, value in sides.items() for name in rates}
        draws = {"n_random": random.count(), "random_low": random.min(), "random_high": random.max()}
        rows.append({**counts, **both, **draws, "head": _ablated_head(results.interventions, row)})
    frame = pd.DataFrame(rows, columns=None if rows else [*SETTING, "intervention", "p_value"])
    return frame.assign(q_value=q_values(frame["p_value"].astype(float)))


def _ablated_head(interventions: pd.DataFrame, key: pd.Series) -> str:
    names = ["model", "dataset", "format", "intervention"]
    row = interventions[(interventions[names] == key[names].tolist()).all(axis=1)].iloc[0]
    return f"{row['layer']:.0f}-{row['head']:.0f}"


def verdict(row: pd.Series) -> str:
    """The honest sentence for one row of `head_effects`; it claims an effect only beyond chance and random heads."""
    if pd.isna(row["difference"]):
        return "not measured: no query has a scored answer both with and without the head."
    if row["low"] <= 0 <= row["high"]:
        return "no effect found: the interval of the change includes 0."
    if not beyond_chance(row, "q_value"):
        return "no effect found: the interval excludes 0, but McNemar's exact test over all settings does not."
    if row["difference"] < 0:
        return "no loss of safety found: the model complies less without this head, which seems to suppress refusal."
    if row["n_random"] == 0:
        return "compliance rises, but no random head was ablated for comparison, so it proves little."
    if row["random_high"] >= row["asr_after"]:
        return "no effect found: a random head does as much."
    return "effect found: compliance rises beyond chance and beyond every random head."


def _head_lines(results: Results, setting: Primary, manifest: dict) -> list[str]:
    """Which head Ships puts first, its sign, its size, and its standing on benign queries."""
    means = mean_ships(results.ships)
    means = means[(means["model"] == manifest["name"]) & (means["ablation"] == setting.ablation)]
    means = means[means["format"] == setting.format]
    ranked = means[means["dataset"] == setting.dataset].sort_values("kl_nats", ascending=False)
    if ranked.empty:
        return [f"Ships was not computed on {setting.dataset} in this setting."]
    first, name = ranked.iloc[0], f"{ranked.iloc[0]['layer']:.0f}-{ranked.iloc[0]['head']:.0f}"
    runner_up = f" (next: {ranked.iloc[1]['kl_nats']:.3g})" if len(ranked) > 1 else ""
    lines = [
        f"Ships puts head **{name}** first of {len(ranked)}: {first['kl_nats']:.3g} nats on average{runner_up}. "
        + _sign(first["refusal_logodds_change"]),
        f"Its W_q is {head_weights(manifest):,} of {manifest['n_parameters']:,} parameters "
        f"({100 * head_share(manifest):.3f} %).",
    ]
    lines.append(_stability(results, setting, means, first))
    if benign := _benign_ranks(means, first, set(harmful_datasets(results))):
        lines.append(f"On benign queries the same head: {benign}.")
    return lines


def _stability(results: Results, setting: Primary, means: pd.DataFrame, first: pd.Series) -> str:
    """How sure it is that the head is first: over draws of the queries, and between the harmful data sets."""
    ships = results.ships
    here = [first["model"], setting.dataset, setting.format, setting.ablation]
    own = ships[(ships[["model", "dataset", "format", "ablation"]] == here).all(axis=1)]
    share = bootstrap_firsts(own).get((first["layer"], first["head"]), 0.0)
    text = f"Drawing its {own['query_id'].nunique()} queries anew (1,000 times), it is first in {share:.0%}"
    harmful = means[means["dataset"].isin(harmful_datasets(results))]
    if harmful["dataset"].nunique() < 2:
        return text + "."
    return f"{text}; the harmful data sets' rankings agree with Kendall's W = {kendalls_w(harmful):.2f}."


def _sign(change: float) -> str:
    if pd.isna(change):
        return "Its sign is unknown: the model has no refusals to measure."
    role = "it carries refusal" if change < 0 else "it suppresses refusal"
    return f"Ablated, the log-odds that the answer opens with a refusal change by {change:+.2f}: {role}."


def _benign_ranks(means: pd.DataFrame, head: pd.Series, harmful: set[str]) -> str:
    found = []
    for dataset, rows in means[~means["dataset"].isin(harmful)].groupby("dataset", sort=False):
        ranks = rows["kl_nats"].rank(ascending=False, method="min")
        here = (rows["layer"] == head["layer"]) & (rows["head"] == head["head"])
        if here.any():
            found.append(f"{rows.loc[here, 'kl_nats'].iloc[0]:.3g} nats, place {ranks[here].iloc[0]:.0f} ({dataset})")
    return "; ".join(found)


def _effect_lines(effects: pd.DataFrame, setting: Primary) -> list[str]:
    if effects.empty:
        return ["Verdict: not measured: no answers were judged with Ships' first head ablated in this setting."]
    lines = []
    main = effects[(effects["dataset"] == setting.dataset) & (effects["format"] == setting.format)]
    if len(main):
        row = main.iloc[0]
        lines += [
            f"Without head {row['head']} alone, ASR goes from {_interval(row, 'before')} to {_interval(row, 'after')}, "
            f"{rate(row['difference'], row['low'], row['high'])} on {row['n_pairs']} queries "
            f"(McNemar's exact p = {row['p_value']:.2g}); {_random(row)}.",
            f"Verdict: {verdict(row)}",
        ]
    found = effects.apply(verdict, axis=1).str.startswith("effect found").sum()
    return [*lines, f"Over all harmful data sets and formats: an effect in {found} of {len(effects)} settings."]


def _interval(row: pd.Series, side: str) -> str:
    if pd.isna(row[f"asr_{side}"]):
        return "not scored"
    return f"{row[f'asr_{side}']:.2f} [{row[f'low_{side}']:.2f}, {row[f'high_{side}']:.2f}]"


def _random(row: pd.Series) -> str:
    if row["n_random"] == 0:
        return "no random head was ablated"
    return f"{row['n_random']} random heads give {row['random_low']:.2f} to {row['random_high']:.2f}"


def _effect_table(effects: pd.DataFrame) -> pd.DataFrame:
    cells = {
        "data set": effects["dataset"],
        "format": effects["format"],
        "head": effects["head"],
        "n": effects["n_pairs"],
        "ASR before": effects.apply(_interval, side="before", axis=1),
        "ASR after": effects.apply(_interval, side="after", axis=1),
        "change": effects.apply(lambda row: rate(row["difference"], row["low"], row["high"]), axis=1),
        "p": effects["p_value"].map(_two_digits),
        "q": effects["q_value"].map(_two_digits),
        "random heads": effects.apply(_random, axis=1).str.extract(r"give (.*)", expand=False).fillna("none"),
        "verdict": effects.apply(verdict, axis=1).str.split(r"[:,]", regex=True).str[0],
    }
    return pd.DataFrame(cells)


def _two_digits(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2g}"


def shared_heads(results: Results, setting: Primary) -> pd.DataFrame:
    """`overlaps` of the top heads of every two models, in the headline's setting."""
    scores = results.subspace
    for column in ("dataset", "format", "ablation"):
        scores = scores[scores[column] == getattr(setting, column)]
    return overlaps(scores, "model", TOP)


def _overlap_lines(results: Results, setting: Primary) -> list[str]:
    """Fig. 5b in words, for the headline's setting."""
    pairs = shared_heads(results, setting)
    if pairs.empty:
        return ["No two models have the same layers and heads, so there is nothing to compare."]
    return [
        f"{row['one']} and {row['other']} share {row['shared']} of their top {TOP} heads by generalised Ships; "
        f"chance alone gives {row['expected']:.2f} ({row['low']} to {row['high']}; p = {row['p_value']:.1g}): "
        + ("more than chance. " if row["shared"] > row["high"] else "no more than chance. ")
        + f"Rank-biased overlap of all heads: {row['rbo']:.2f} (chance {row['rbo_chance']:.2f})."
        for _, row in pairs.iterrows()
    ]
