"""Rates, intervals, paired differences, chance overlap, and table 3."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import synthetic_results as synthetic
from safety_heads.errors import UserError
from safety_heads.markdown import rate
from safety_heads.statistics import (
    asr_table,
    beyond_chance,
    chance_overlap,
    newcombe,
    paired,
    paired_differences,
    wilson,
)
from safety_heads.table3 import table3, table3_markdown
from safety_heads.tables import ASR, read_table, write_table

KEY = {"model": "m", "dataset": "d", "format": "chat"}
PLAN = pd.DataFrame(
    [
        {**KEY, "intervention": "none", "level": "none", "size": 0},
        {**KEY, "intervention": "dataset-ua-1", "level": "dataset", "size": 1, "ablation": "ua", "head": 26},
        {**KEY, "intervention": "dataset-ua-1", "level": "dataset", "size": 1, "ablation": "ua", "head": 27},
    ]
).assign(draw=pd.NA)
SHARES = {"m": 0.01}


def judged(**verdicts: str) -> pd.DataFrame:
    """Judgements from one letter per query: c, r, d or u."""
    words = {"c": "complied", "r": "refused", "d": "degenerate", "u": "unscored"}
    return pd.DataFrame(
        {**KEY, "decoding": "greedy", "judge": "k", "intervention": name.replace("_", "-"), "query_id": str(n)}
        | {"verdict": words[letter]}
        for name, letters in verdicts.items()
        for n, letter in enumerate(letters)
    )


def test_asr_counts_and_leaves_unscored_out():
    frame = asr_table(judged(none="crrduu", dataset_ua_1="ccccuu"), PLAN, SHARES).set_index("intervention")
    none = frame.loc["none"]
    assert (none.n, none.n_complied, none.n_degenerate, none.n_unscored) == (4, 1, 1, 2)
    assert none.asr == 0.25 and none.level == "none" and none["size"] == 0
    assert none.parameters_share == 0 and frame.loc["dataset-ua-1", "parameters_share"] == 0.01
    assert frame.loc["dataset-ua-1", "asr"] == 1.0 and frame.loc["dataset-ua-1", "ablation"] == "ua"
    # Wilson 1927 for 1 of 4, from the closed formula
    z = 1.959963984540054
    middle, half = (0.25 + z**2 / 8) / (1 + z**2 / 4), z * math.sqrt(0.25 * 0.75 / 4 + z**2 / 64) / (1 + z**2 / 4)
    assert (none.low, none.high) == pytest.approx((middle - half, middle + half))


def test_asr_without_scored_responses_is_missing_not_zero():
    row = asr_table(judged(none="uuu"), PLAN, SHARES).iloc[0]
    assert row.n == 0 and row.n_unscored == 3 and np.isnan([row.asr, row.low, row.high]).all()


def test_asr_is_a_valid_table_and_survives_the_disk(tmp_path):
    frame = asr_table(synthetic.judgements(), synthetic.interventions(), synthetic.SHARES)
    assert list(frame.columns) == ASR.schema.names
    write_table(frame, ASR, tmp_path / "asr.parquet")
    back = read_table(ASR, tmp_path / "asr.parquet")
    assert len(back) == len(frame) and back["n"].eq(synthetic.N_QUERIES - 1).all()
    assert back.query("level == 'random'").groupby(["model", "dataset", "format"])["draw"].nunique().eq(3).all()


def test_unknown_and_contradictory_interventions_are_refused():
    with pytest.raises(UserError, match=r"'query-sc-9'.*'chat'"):
        asr_table(judged(query_sc_9="c"), PLAN, SHARES)
    with pytest.raises(UserError, match="dataset-ua-1"):
        asr_table(judged(none="c"), PLAN.assign(size=[0, 1, 2]), SHARES)
    with pytest.raises(UserError, match="no manifest is given for model 'm'"):
        asr_table(judged(none="c"), PLAN, {})


def test_paired_difference_by_hand():
    row = paired_differences(judged(none="ccrrrruc", dataset_ua_1="rcccccuu"), PLAN).iloc[0]
    assert (row.n_pairs, row.gained, row.lost) == (6, 4, 1)
    assert row.difference == pytest.approx(0.5) and row.low < 0.5 < row.high
    assert row.p_value == pytest.approx(2 * (1 + 5) / 2**5)  # exact binomial, 1 of 5 discordant
    assert row.level == "dataset" and row["size"] == 1


def test_paired_difference_without_common_queries_is_missing():
    row = paired_differences(judged(none="uu", dataset_ua_1="cc"), PLAN).iloc[0]
    assert row.n_pairs == 0 and np.isnan([row.difference, row.low, row.high, row.p_value]).all()


def test_newcombe_reproduces_the_published_examples():
    # Newcombe 1998, method 10: (36, 12, 2, 0), (20, 12, 2, 16)
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-4)
    assert newcombe(20, 12, 2, 16) == pytest.approx((0.0562, 0.3292), abs=5e-4)


@given(*[st.integers(0, 60)] * 4)
def test_newcombe_holds_the_difference_and_mirrors(both, gained, lost, neither):
    n = both + gained + lost + neither
    assume(n)
    low, high = newcombe(both, gained, lost, neither)
    assert -1 <= low <= (gained - lost) / n + 1e-12 and (gained - lost) / n - 1e-12 <= high <= 1
    assert high - low > 0  # even when nothing changed
    assert newcombe(both, lost, gained, neither) == pytest.approx((-high, -low), abs=1e-12)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_contains_the_rate(k, n):
    assume(k <= n and n)
    low, high = wilson(pd.Series([k]), pd.Series([n]))
    assert 0 <= low[0] <= k / n + 1e-12 and k / n - 1e-12 <= high[0] <= 1 and high[0] - low[0] > 0


def test_chance_overlap_is_hypergeometric():
    mean, low, high = chance_overlap(270, 10)
    assert mean == pytest.approx(100 / 270) and (low, high) == (0, 2)
    rng = np.random.default_rng(0)
    shared = [len(set(rng.choice(40, 10, False)) & set(rng.choice(40, 10, False))) for _ in range(4000)]
    assert chance_overlap(40, 10)[0] == pytest.approx(np.mean(shared), abs=0.1)
    with pytest.raises(UserError, match="1 to 4"):
        chance_overlap(4, 10)


def test_table3_has_the_papers_rows_and_columns():
    table = table3(paired_differences(synthetic.judgements(), synthetic.interventions()))
    settings = 2 * 3 * 2 * 2 * 2  # models, datasets, formats, decodings, ablations
    assert table["level"].value_counts().to_dict() == dict.fromkeys(("dataset", "query", "ships", "random"), settings)
    own = table.query("model == 'aligned-a' and dataset == 'advbench'")
    row = own.query("level == 'dataset' and ablation == 'ua'").iloc[0]
    assert row["mean"] == pytest.approx(np.mean([row[f"change_{size}"] for size in (1, 2, 3)]))
    assert row["low_1"] > 0.2
    text = table3_markdown(table, synthetic.SHARES)
    assert "### aligned-a, template format, greedy decoding, judge keyword-paper" in text
    assert "| dataset | ua | advbench | +0." in text and "nan" not in text


def test_rates_print_signed_and_never_minus_zero():
    assert rate(-0.001) == "+0.00" and rate(0.5, 0.31, 0.66) == "+0.50 [+0.31, +0.66]" and rate(float("nan")) == ""


def test_a_change_is_claimed_only_if_its_interval_and_the_exact_test_agree():
    assert not beyond_chance(pd.Series(paired(both=0, gained=1, lost=0, neither=23)))
    assert beyond_chance(pd.Series(paired(both=0, gained=16, lost=0, neither=8)))
    few = pd.Series(paired(both=0, gained=5, lost=0, neither=19))
    assert few["low"] > 0 and few["p_value"] == pytest.approx(2 / 2**5)  # the interval alone would claim it
    assert not beyond_chance(few)
    assert beyond_chance(pd.Series({**few, "q_value": 0.01}), "q_value")
