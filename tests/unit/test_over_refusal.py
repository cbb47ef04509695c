"""Over-refusal: what ablating the head does to answers to benign queries, and when a change is claimed."""

import numpy as np
import pandas as pd
import pytest

import synthetic_results as synthetic
from safety_heads.over_refusal import finding, over_refusal, over_refusal_lines, over_refusal_markdown
from safety_heads.results import Primary, primary
from safety_heads.summary import write_summary

SETTING = Primary("advbench", "chat")
NAMES = {"none": ("none", None), "ships-ua-1": ("ships", None), "random-ua-1-draw1": ("random", 1)}
N = 20


def plans() -> pd.DataFrame:
    rows = []
    for model in synthetic.MODELS:
        for name, (level, draw) in NAMES.items():
            traits = {"level": level, "size": int(level != "none"), "draw": draw, "ablation": "ua"}
            place = {"layer": 18, "head": 8, "query_id": None, "epsilon": 1e-5}
            setting = {"model": model, "dataset": "rho-plain", "format": "chat", "intervention": f"benign+{name}"}
            rows.append({**setting, **traits, **(place if level != "none" else {"ablation": None, "layer": None})})
    return pd.DataFrame(rows).astype({"draw": "Int32", "layer": "Int32", "head": "Int32"})


def judged(refused: dict[str, int], other: str = "complied") -> pd.DataFrame:
    """The first so many of N queries refused, by intervention."""
    rows = []
    for row in plans().itertuples():
        for n in range(N):
            verdict = "refused" if n < refused[row.intervention.partition("+")[2]] else other
            key = {"model": row.model, "dataset": "rho-plain", "format": "chat", "intervention": row.intervention}
            answer = {"query_id": f"rho-plain-{n}", "verdict": verdict, "score": 0.0, "reason": "made"}
            rows += [{**key, "decoding": d, "judge": SETTING.judge, **answer} for d in ("greedy", "top5")]
    return pd.DataFrame(rows)


MORE = {"none": 1, "ships-ua-1": 11, "random-ua-1-draw1": 2}


def test_rates_and_change_are_those_of_refusals():
    table = over_refusal(judged(MORE), plans(), SETTING)
    assert len(table) == len(synthetic.MODELS)  # one decoding only
    row = table.iloc[0]
    assert (row["refused_before"], row["refused_after"], row["difference"]) == pytest.approx((0.05, 0.55, 0.5))
    assert row["low_before"] < 0.05 < row["high_before"] and 0 < row["low"] < 0.5 < row["high"]
    assert row["p_value"] == pytest.approx(2 * 0.5**10)  # McNemar: ten newly refused, none the other way
    assert (row["n_before"], row["n_pairs"], row["head"]) == (N, N, "18-8")
    assert (row["n_random"], row["random_low"], row["random_high"]) == (1, 0.1, 0.1)
    assert finding(row) == "refuses more"


def test_degenerate_answers_are_no_refusals_and_unscored_ones_do_not_count():
    broken = over_refusal(judged(MORE, other="degenerate"), plans(), SETTING).iloc[0]
    assert (broken["refused_after"], broken["difference"]) == pytest.approx((0.55, 0.5))
    frame = judged(MORE)
    frame.loc[frame["query_id"].isin([f"rho-plain-{n}" for n in range(10, N)]), "verdict"] = "unscored"
    half = over_refusal(frame, plans(), SETTING).iloc[0]
    assert (half["n_pairs"], half["refused_before"], half["refused_after"]) == (10, 0.1, 1.0)
    before = frame["intervention"].eq("benign+none")
    alone = over_refusal(frame.assign(verdict=frame["verdict"].mask(before, "unscored")), plans(), SETTING)
    assert np.isnan(alone["refused_before"]).all() and finding(alone.iloc[0]) == "not measured"
    assert "nan" not in over_refusal_markdown(alone) + " ".join(over_refusal_lines(alone, "aligned-a", SETTING))
    none = over_refusal(frame.assign(verdict="unscored"), plans(), SETTING)
    assert over_refusal_markdown(none).startswith("Not measured") and not over_refusal_lines(none, "m", SETTING)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (MORE | {"random-ua-1-draw1": 11}, "no change found: a random head does as much"),
        (MORE | {"ships-ua-1": 2}, "no change found"),
        (MORE | {"none": 15, "ships-ua-1": 2, "random-ua-1-draw1": 14}, "refuses less"),
        (MORE | {"none": 15, "ships-ua-1": 2, "random-ua-1-draw1": 1}, "no change found: a random head does as much"),
    ],
)
def test_a_change_is_claimed_beyond_chance_and_random_heads_only(refused, said):
    assert finding(over_refusal(judged(refused), plans(), SETTING).iloc[0]) == said


def test_without_random_heads_the_finding_says_so():
    plan = plans()[plans()["level"] != "random"]
    frame = judged(MORE)
    table = over_refusal(frame[frame["intervention"].isin(plan["intervention"])], plan, SETTING)
    assert finding(table.iloc[0]) == "refuses more, no random head beside it"
    assert "| none |" in over_refusal_markdown(table)


def test_the_summary_tells_it_of_each_model_and_is_silent_without_benign_answers():
    of = synthetic.results()
    text = write_summary(of, primary(of), over_refusal(judged(MORE), plans(), SETTING))
    line = "it refuses 0.05 [0.01, 0.24], without head 18-8 0.55 [0.34, 0.74], +0.50 ["
    assert text.count(line) == 2 and "random heads: 0.10 to 0.10. Refuses more." in text
    assert text.index("## Over-refusal") < text.index("## Shared heads") and "| rho-plain | 18-8 | UA | 20 |" in text
    assert "ver-refusal" not in write_summary(of, primary(of))
