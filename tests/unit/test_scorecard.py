"""The scorecard: the paper's numbers beside ours, and claims that are supported only where the data say so."""

import pandas as pd
import pytest

import synthetic_results as synthetic
from safety_heads.results import primary
from safety_heads.scorecard import claims, compare, scorecard_markdown
from safety_heads.statistics import paired_differences
from synthetic_results import results

SETTING = {"model": "aligned-a", "dataset": "advbench", "format": "template", "decoding": "greedy"}


def reference(*rows: tuple) -> pd.DataFrame:
    """Rows of (intervention, kind, value), in SETTING unless a mapping stands last."""
    return pd.DataFrame(
        {"place": "table 0", **SETTING, "intervention": name, "kind": kind, "value": value, **dict(*other)}
        for name, kind, value, *other in rows
    )


@pytest.fixture(scope="module")
def run():
    return results(effect=True)


def compared(run, *rows):
    changes = paired_differences(run.judgements, run.interventions)
    return compare(reference(*rows), run.asr, changes, synthetic.JUDGE)


def test_a_number_agrees_if_it_lies_in_our_interval(run):
    [ours] = run.asr.query(
        "model == 'aligned-a' and dataset == 'advbench' and format == 'template' and decoding == 'greedy' "
        "and intervention == 'ships-ua-1'"
    ).itertuples()
    frame = compared(
        run,
        ("ships-ua-1", "asr", ours.low),
        ("ships-ua-1", "asr", ours.high + 0.01),
        ("ships-ua-1", "change", 0.5),
        ("ships-ua-1", "change", -0.5),
        ("ships-ua-1", "asr", 0.5, {"model": "llama-2-7b-chat"}),
        ("sure+none", "asr", 0.5),
    )
    assert frame["verdict"].tolist() == ["agrees", "differs", "agrees", "differs", "not run", "not run"]
    assert frame["ours"][0] == ours.asr and frame["n"][0] == ours.n and frame["n"][4] == 0


def test_a_mean_over_data_sets_agrees_within_five_points(run):
    everywhere = {"dataset": "mean", "decoding": "mean"}
    rates = run.asr.query("model == 'aligned-a' and format == 'template' and intervention == 'none'")["asr"]
    frame = compared(run, ("none", "asr", rates.mean() + 0.04, everywhere), ("none", "asr", 0.9, everywhere))
    assert frame["verdict"].tolist() == ["agrees", "differs"] and frame["ours"][0] == pytest.approx(rates.mean())


def verdicts(of) -> dict[tuple[str, str], str]:
    return claims(of, primary(of)).set_index(["model", "claim"])["verdict"].to_dict()


def test_claims_are_supported_where_the_effect_is_planted(run):
    found = verdicts(run)
    for model in synthetic.MODELS:
        assert found[model, "one head's ablation multiplies ASR"] == "supported"
        assert found[model, "UA does more than SC"] == "supported"
        assert found[model, "a small group does more than one head"] == "inconclusive"  # the same rate was planted
        assert found[model, "it takes about 0.0x % of the parameters"] == "supported"
        assert found[model, "helpfulness is hardly touched"] == "not run"
    assert found["all", "models from one base share safety heads"] == "supported"


def test_without_an_effect_nothing_is_claimed():
    found = verdicts(results(effect=False))
    for model in synthetic.MODELS:
        for claim in ("one head's ablation multiplies ASR", "UA does more than SC"):
            assert found[model, claim] == "inconclusive"
        assert found[model, "it takes about 0.0x % of the parameters"] == "inconclusive"


def test_a_claim_can_fail(run):
    """With the roles of UA and SC exchanged, SC does more."""
    swap = {"ships-ua-1": "ships-sc-1", "ships-sc-1": "ships-ua-1"}
    judged = run.judgements.assign(intervention=run.judgements["intervention"].replace(swap))
    assert verdicts(results(judged=judged))["aligned-a", "UA does more than SC"] == "not supported"


def test_the_page_shows_what_was_run_and_counts_the_rest(run):
    numbers = compared(run, ("ships-ua-1", "asr", 0.6), ("none", "asr", 0.1, {"model": "vicuna-7b-v1.5"}))
    text = scorecard_markdown(numbers, claims(run, primary(run)), primary(run))
    assert "2 in all: " in text and "1 not run" in text and "vicuna" not in text
    assert "| table 0 | aligned-a | advbench |" in text and "nan" not in text
