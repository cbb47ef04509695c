"""The spot check by hand: whom the sample speaks for, what the page cannot become, and what labels are worth."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from safety_heads import annotation
from safety_heads.annotation import LABELS, allocate, draw_sample, identify, page, read_labels, strata
from safety_heads.errors import UserError
from safety_heads.human_agreement import agreement_markdown, human_agreement

TEMPLATE = (Path(__file__).parents[2] / "report/annotation_page.html").read_text()
HOSTILE = "</script><img src=x onerror=\"document.title='ran'\"> <!-- & \u2028 \x07 <script>alert(1)</script>"
LEVELS = {"none": "none", "ships-ua-1": "ships", "random-ua-1-draw1": "random"}
N, SEED = 40, 0


def generations() -> pd.DataFrame:
    """2 models x 2 data sets x 3 interventions x 50 queries."""
    frame = pd.MultiIndex.from_product(
        [("a", "b"), ("bad", "worse"), LEVELS, range(50)], names=["model", "dataset", "intervention", "number"]
    ).to_frame(index=False)
    frame["query_id"] = frame["dataset"] + "-" + frame.pop("number").astype(str)
    return frame.assign(format="chat", decoding="greedy", response=[f"answer {n}" for n in range(len(frame))])


def judgements() -> pd.DataFrame:
    """Judge `one` finds every third answer complied; `two` calls every twentieth otherwise, and leaves one unscored."""
    frame = generations().drop(columns="response")
    one = np.where(np.arange(len(frame)) % 3 == 0, "complied", "refused")
    two = np.where(np.arange(len(frame)) % 20 == 0, "degenerate", one)
    two[1] = "unscored"
    both = (frame.assign(judge=name, verdict=verdict) for name, verdict in (("one", one), ("two", two)))
    return pd.concat(both, ignore_index=True)


def interventions() -> pd.DataFrame:
    frame = generations()[["model", "dataset", "format", "intervention"]].drop_duplicates()
    return frame.assign(level=frame["intervention"].map(LEVELS), ablation="ua", size=1, draw=None)


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    return strata(identify(generations(), N, SEED)[0], judgements(), interventions())


@pytest.fixture(scope="module")
def sample(answers) -> pd.DataFrame:
    return draw_sample(answers, N, SEED)


def test_every_stratum_is_in_the_sample_and_disputed_answers_are_half_of_it(answers, sample):
    assert len(sample) == N and not sample["id"].duplicated().any()
    assert sample.groupby(annotation.STRATUM).ngroups == answers.groupby(annotation.STRATUM).ngroups == 2 * 2 * 3 * 2
    assert (~answers["agree"]).mean() == 0.05 and (~sample["agree"]).sum() == N / 2
    kinds = sample["kind"].value_counts()
    assert set(kinds.index) == {"none", "ablated", "random"} and kinds.max() - kinds.min() <= 2


def test_weights_give_back_the_population(answers, sample):
    weights = sample.groupby(annotation.STRATUM)["weight"].sum()
    sizes = answers.groupby(annotation.STRATUM).size()
    pd.testing.assert_series_equal(weights, sizes, check_dtype=False, check_names=False)
    disputed = sample.loc[~sample["agree"], "weight"].sum() / sample["weight"].sum()
    assert disputed == pytest.approx(0.05)


def test_the_sample_depends_on_the_seed_and_not_on_the_order_of_the_files(answers, sample):
    turned = strata(identify(generations()[::-1], N, SEED)[0], judgements()[::-1], interventions()[::-1])
    pd.testing.assert_frame_equal(draw_sample(turned, N, SEED), sample)
    other = draw_sample(answers, N, SEED + 1)
    assert set(other["id"]) != set(sample["id"])
    assert sample["model"].tolist() != sorted(sample["model"])  # shuffled


def test_a_new_judge_leaves_ids_and_digest_and_other_answers_do_not(answers):
    ids, digest = identify(generations(), N, SEED)
    changed = generations()
    changed.loc[3, "response"] = "another answer"
    for frame, n, seed in ((changed, N, SEED), (generations(), N + 1, SEED), (generations(), N, SEED + 1)):
        others, name = identify(frame, n, seed)
        assert name != digest and not set(others["id"]) & set(ids["id"])
    assert not any(text in "".join(ids["id"]) for text in ("ships", "random"))


def test_an_unscored_verdict_is_no_dispute(answers):
    row = generations().iloc[1]
    assert answers[(answers[annotation.KEY] == row[annotation.KEY]).all(axis=1)]["agree"].all()


def test_small_strata_are_taken_whole_and_their_share_goes_to_the_others():
    drawn = allocate(pd.Series([2, 100, 100]), pd.Series([0.5, 0.25, 0.25]), 20)
    assert drawn.tolist() == [2, 9, 9]
    assert allocate(pd.Series([2, 1]), pd.Series([0.5, 0.5]), 20).tolist() == [2, 1]  # fewer answers than wanted
    with pytest.raises(UserError, match=r"annotation\.n 1 is less than the 2 strata"):
        allocate(pd.Series([2, 1]), pd.Series([0.5, 0.5]), 1)


def test_an_unknown_intervention_is_named():
    with pytest.raises(UserError, match="'ships-ua-1' of 'a' is in no interventions table"):
        strata(generations(), judgements(), interventions().query("intervention != 'ships-ua-1'"))


def test_the_page_tells_neither_model_nor_verdict_and_no_text_becomes_markup(sample):
    asked = sample.assign(query=HOSTILE, response=HOSTILE)
    html = page(TEMPLATE, asked, "digest")
    assert html.count("</script>") == 2 and "<img" not in html and "\u2028" not in html
    held = json.loads(re.search(r'application/json">(.*?)</script>', html, re.DOTALL)[1])
    assert [set(row) for row in held["rows"]] == [{"id", "query", "response", "weight"}] * N
    assert held["rows"][0]["response"] == HOSTILE and held["sample"] == "digest"
    assert not re.search(r"\b(src|href)=|https?:|@import|url\(", TEMPLATE)
    for change in (("__DATA__", ""), ("__SCRIPT_SHA256__", ""), ("<script>", "<script></script><script>")):
        with pytest.raises(UserError, match="template"):
            page(TEMPLATE.replace(*change), asked, "digest")


def exported(sample: pd.DataFrame, label: str | None = "refused") -> pd.DataFrame:
    """What the page exports."""
    digest = identify(generations(), N, SEED)[1]
    rows = sample[["id", "weight"]].assign(sample=digest, label=label, seconds=1.5)
    return rows[list(annotation.COLUMNS)]


def read(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    frame.to_csv(folder / "labels.csv", index=False)
    return read_labels(folder / "labels.csv", *identify(generations(), N, SEED))


def test_labels_come_back_as_they_were_given(sample, tmp_path):
    frame = exported(sample)
    frame["label"] = [LABELS[n % 4] for n in range(N)]
    frame.loc[5, ["label", "seconds"]] = ["", None]
    found = read(frame, tmp_path)
    assert found["label"].tolist() == frame["label"].tolist() and found["id"].tolist() == frame["id"].tolist()
    np.testing.assert_allclose(found["weight"], sample["weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": "0123456789ab"}, r"labels\.csv, line 5: sample '0123456789ab' is not this run's"),
        ({"id": "0123456789ab"}, r"line 5: id '0123456789ab' is unknown"),
        ({"label": "harmful"}, r"line 5: label 'harmful' is none of complied, refused, degenerate, unclear"),
        ({"label": "Refused"}, r"line 5: label 'Refused'"),
        ({"seconds": "-1"}, r"line 5: seconds '-1' is no time"),
        ({"seconds": ""}, r"line 5: seconds '' is no time"),
        ({"weight": "0.5"}, r"line 5: weight '0\.5'"),
        ({"weight": "inf"}, r"line 5: weight 'inf'"),
        ({"weight": "1000"}, r"the weights sum to .*, not to the 600 answers"),
    ],
)
def test_wrong_rows_are_refused_by_name(sample, tmp_path, change, message):
    frame = exported(sample).astype(str)
    for column, value in change.items():
        frame.loc[3, column] = value
    with pytest.raises(UserError, match=message):
        read(frame, tmp_path)


def test_rows_that_come_twice_or_are_missing_and_other_files_are_refused(sample, tmp_path):
    frame = exported(sample)
    with pytest.raises(UserError, match=f"line {N + 2}: id '{frame['id'][7]}' comes twice"):
        read(pd.concat([frame, frame.iloc[[7]]]), tmp_path)
    with pytest.raises(UserError, match="rows are missing"):
        read(frame.iloc[1:], tmp_path)
    with pytest.raises(UserError, match="has no column 'weight'"):
        read(frame.drop(columns="weight"), tmp_path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read_labels(tmp_path / "empty.csv", *identify(generations(), N, SEED))


def labelled_by(judge: str, sample: pd.DataFrame) -> pd.DataFrame:
    """Labels that are all a judge's own verdicts."""
    verdicts = sample.merge(judgements().query("judge == @judge"), on=annotation.KEY)
    return verdicts[["id", "weight"]].assign(label=verdicts["verdict"])


def test_shares_are_those_of_all_answers_though_half_the_sample_is_disputed(answers, sample):
    table = human_agreement(labelled_by("one", sample), answers, judgements()).set_index("judge")
    own, other = table.loc["one"], table.loc["two"]
    assert own["accuracy"] == own["kappa"] == own["complied_kappa"] == pytest.approx(1.0) and own["n"] == N
    assert other["accuracy"] == pytest.approx(0.95)  # `two` differs in one of twenty; 0.5 in the sample itself
    assert other["accuracy_low"] < 0.95 < other["accuracy_high"] and other["n_effective"] < N
    assert sum(other[f"count_{human}_{judge}"] for human in annotation.CLASSES for judge in annotation.CLASSES) == N
    assert own["asr_human"] == own["asr_judge"]


def kappa(one: pd.Series, other: pd.Series, weight: pd.Series) -> float:
    """Cohen's kappa as defined: agreement beyond chance over what is possible beyond chance."""
    share = weight / weight.sum()
    chance = sum(share[one == name].sum() * share[other == name].sum() for name in set(one) | set(other))
    return (share[one == other].sum() - chance) / (1 - chance)


def test_kappa_is_that_of_the_weighted_answers_and_its_interval_shrinks_with_their_number(answers, sample):
    labels = labelled_by("one", sample)
    labels.loc[::5, "label"] = "complied"
    other = human_agreement(labels, answers, judgements()).set_index("judge").loc["two"]
    judged = labels.merge(sample[["id", *annotation.KEY]], on="id").merge(judgements().query("judge == 'two'"))
    judged = judged[judged["verdict"] != "unscored"]
    expected = kappa(judged["label"], judged["verdict"], judged["weight"])
    assert other["kappa"] == pytest.approx(expected)
    both = (judged[name].eq("complied") for name in ("label", "verdict"))
    assert other["complied_kappa"] == pytest.approx(kappa(*both, judged["weight"]))
    assert -1 <= other["kappa_low"] < expected < other["kappa_high"] <= 1
    few = human_agreement(labels.iloc[: N // 2], answers, judgements()).set_index("judge").loc["two"]
    assert few["kappa_high"] - few["kappa_low"] > other["kappa_high"] - other["kappa_low"]


def test_what_is_left_out_is_counted(answers, sample):
    labels = labelled_by("one", sample)
    labels.loc[:2, "label"] = ""
    labels.loc[3:7, "label"] = "unclear"
    table = human_agreement(labels, answers, judgements().assign(verdict="unscored")).set_index("judge")
    assert table.loc["one", ["n", "n_unlabelled", "n_unclear", "n_unscored"]].tolist() == [0, 3, 5, N - 8]
    assert np.isnan(table.loc["one", "accuracy"]) and np.isnan(table.loc["one", "kappa"])
    text = agreement_markdown(table.reset_index(), "labels.csv")
    assert "nan" not in text and "| one | 0 (0) |" in text
    alike = human_agreement(labels.assign(label="refused"), answers, judgements().assign(verdict="refused"))
    assert alike["accuracy"].eq(1).all() and alike["kappa"].isna().all()  # one class: chance agrees as well
