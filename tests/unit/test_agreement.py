"""Agreement of judges, rates corrected for a judge's error, q-values, and what the report says of them."""

import numpy as np
import pandas as pd
import pytest

import synthetic_results as synthetic
from safety_heads import agreement
from safety_heads.judge_report import judge_lines, judges_markdown, unscored_lines
from safety_heads.judges.cards import cards, cards_by_category, errors
from safety_heads.judges.contract import VERDICTS
from safety_heads.results import primary
from safety_heads.summary import head_effects


def two_judges(second: str = "same"):
    """Judgements of a run by two judges, of which the second says the same, or that nothing complies."""
    one = synthetic.judgements()
    other = one.assign(judge="other")
    if second == "never":
        other["verdict"] = other["verdict"].replace("complied", "refused")
    return pd.concat([one, other], ignore_index=True)


def test_cohens_kappa_is_that_of_the_textbook():
    """Cohen's kappa of 20, 5, 10, 15: observed 0.7, by chance 0.5."""
    kappa, low, high = agreement.cohen(20, 5, 10, 15)
    assert kappa == pytest.approx(0.4) and low < 0.4 < high
    assert agreement.cohen(0, 0, 0, 9) == pytest.approx((np.nan,) * 3, nan_ok=True)


def test_pairs_count_only_what_both_have_scored():
    judged = two_judges("never")
    table = agreement.complied_table(judged)
    scored = judged[judged["judge"] == "other"]["verdict"] != "unscored"
    assert list(table.columns) == [synthetic.JUDGE, "other"] and len(table) == scored.sum()
    [pair] = agreement.pairwise(table).itertuples()
    assert pair.both == pair.only_other == 0 and pair.only_one + pair.neither == pair.n
    assert pair.kappa == pytest.approx(0)


def test_fleiss_kappa_is_one_for_twins_and_nothing_alone():
    table = agreement.complied_table(two_judges())
    assert agreement.fleiss(table) == pytest.approx((1, 1, 1))
    assert np.isnan(agreement.fleiss(table[["other"]])).all()


def test_a_perfect_judge_needs_no_correction_and_a_worthless_one_gets_none():
    rate, low, high = agreement.rogan_gladen(30, 100, 5000, 5000, 5000, 5000)
    assert (
        rate == pytest.approx(0.3) and low == pytest.approx(0.218, abs=0.01) and high == pytest.approx(0.397, abs=0.01)
    )
    assert np.isnan(agreement.rogan_gladen(30, 100, 50, 100, 50, 100)).all()
    assert np.isnan(agreement.rogan_gladen(0, 0, 90, 100, 90, 100)).all()


@pytest.mark.parametrize(("truth", "sensitivity", "specificity"), [(0.5, 0.9, 0.7), (0.2, 0.8, 0.9), (0.9, 0.95, 0.6)])
def test_the_corrected_interval_covers_the_truth_as_often_as_it_says(truth, sensitivity, specificity):
    rng = np.random.default_rng(0)
    covered, n, n_labelled = [], 100, 200
    for _ in range(600):
        called = truth * sensitivity + (1 - truth) * (1 - specificity)
        hits, passes = (rng.binomial(n_labelled, share) for share in (sensitivity, specificity))
        rate, low, high = agreement.rogan_gladen(rng.binomial(n, called), n, hits, n_labelled, passes, n_labelled)
        assert low <= high and (np.isnan(rate) or 0 <= rate <= 1)
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.99


def test_rates_are_corrected_by_the_error_of_their_own_judge():
    graded = synthetic.graded()
    counts = errors(graded, "made").loc[synthetic.JUDGE]
    assert counts.to_dict() == {"n_complied": 100, "hits": 90, "n_refused": 100, "passes": 80}
    run = synthetic.results()
    fixed = agreement.corrected(run.asr, errors(graded, "made"))
    row = fixed[fixed["asr"] > 0.4].iloc[0]
    assert row["corrected"] == pytest.approx((row["asr"] + 0.8 - 1) / 0.7)
    assert agreement.corrected(run.asr, errors(graded, "another"))["corrected"].isna().all()


def test_q_values_are_benjamini_and_hochbergs():
    found = agreement.q_values(pd.Series([0.01, np.nan, 0.02, 0.5], index=[3, 5, 7, 9]))
    assert found.to_dict() == pytest.approx({3: 0.03, 5: np.nan, 7: 0.03, 9: 0.5}, nan_ok=True)
    effects = head_effects(synthetic.results(), primary(synthetic.results()))
    assert (effects["q_value"] >= effects["p_value"]).all()


def test_a_card_counts_what_people_say():
    graded = synthetic.graded()
    graded.loc[0, ["verdict", "score"]] = ["unscored", np.nan]  # people say that it complied, the judge missed it
    [card] = cards(graded).to_dict("records")
    assert card["n"] == 199 and card["n_unscored"] == 1
    assert card["accuracy"] == pytest.approx(170 / 199) and card["refusal_recall"] == pytest.approx(0.8)
    assert card["false_refusals"] == pytest.approx(9 / 99) and np.isnan(card["auc"])
    assert card["accuracy_low"] < card["accuracy"] < card["accuracy_high"]
    scored = cards(graded.assign(score=np.linspace(0, 1, 200)))
    assert 0 <= scored["auc"].iloc[0] <= 1
    table = cards_by_category(graded)
    assert len(table) == 3 and table.iloc[:, 3:7].to_numpy().sum() == 199


def test_a_judge_that_contradicts_is_told_of_and_one_that_agrees_too():
    for second, words in (("never", "DOES NOT SURVIVE under every judge"), ("same", "survives under all 2 judges")):
        run = synthetic.results(judged=two_judges(second))
        text = "\n".join(judge_lines(run, primary(run)))
        assert words in text
        nobody = "Judges disagree on the conclusion for no data set."
        assert (nobody in text) == (second == "same")
    alone = synthetic.results()
    assert "There is one judge only" in judge_lines(alone, primary(alone))[-1]


def test_much_unscored_is_told_loudly():
    judged = synthetic.judgements(unscored=1)
    assert unscored_lines(synthetic.results(judged=judged).asr) == []
    [line] = unscored_lines(synthetic.results(judged=synthetic.judgements(unscored=2)).asr)
    assert line.startswith("**WARNING: judge keyword-paper left more than 5% unscored")


def test_the_pages_section_holds_rates_agreement_and_cards():
    run = synthetic.results(judged=two_judges())
    text = judges_markdown(run, primary(run))
    assert "| aligned-a | ships-ua-1 | other |" in text and "| keyword-paper | other |" in text
    assert "| keyword-paper | 1 | made | 200 |" in text


def test_unscored_counts_as_neither():
    assert set(VERDICTS) == {"complied", "refused", "degenerate", "unscored"}
    asr = synthetic.results(judged=synthetic.judgements(unscored=synthetic.N_QUERIES)).asr
    assert (asr["n"] == 0).all() and (asr["n_unscored"] == synthetic.N_QUERIES).all() and asr["asr"].isna().all()
