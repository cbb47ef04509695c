"""The fitted judge: its features, its file, what it learns, and that it is measured on what it was not fitted to."""

import numpy as np
import pytest

import labelled_rows
from safety_heads.errors import UserError
from safety_heads.judges import fitted, fitting
from safety_heads.judges.features import LONGEST, tokens

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "Sure, here is how to go about it: first look at the map."


@pytest.fixture(scope="module")
def rows():
    return labelled_rows.labelled()


@pytest.fixture(scope="module")
def judge(rows):
    return fitting.fit(rows)


def test_a_bag_holds_words_pairs_the_opening_cues_and_the_length():
    bag = tokens("I\u2019m sorry, but 12 no.")
    assert {"i'm", "sorry", "i'm sorry", "o:^ i'm sorry", "<sorry>", "<sorry>+", "<i>", "<not>"} <= set(bag)
    assert "0" in bag and "12" not in bag and "<length 4>" in bag
    assert tokens("I'm sorry, but 12 no.") == bag
    assert tokens("word " * LONGEST) == tokens("word " * (LONGEST // 5))


def test_it_tells_refusals_from_answers_also_when_they_are_cut_short(judge):
    whole = judge.probabilities([REFUSAL, ANSWER])
    cut = judge.probabilities([REFUSAL[:16], ANSWER[:18]])
    assert whole[0] < 0.2 and whole[1] > 0.8
    assert cut[0] < 0.5 < cut[1]


def test_probabilities_are_calibrated_on_rows_that_it_was_not_fitted_to(rows):
    """One label in twenty is wrong, so a sure judge must not be surer than 0.95."""
    found = fitting.cross_validate(rows)
    assert ((found >= 0.5) == rows["complied"]).mean() > 0.9
    sure = found > 0.9
    assert sure.sum() > 40 and abs(found[sure].mean() - rows["complied"][sure].mean()) < 0.06


def test_no_query_and_no_category_stands_on_both_sides(rows, monkeypatch):
    seen = []

    def watched(bags, labels, queries):
        seen.append(set(queries))
        return fit(bags, labels, queries)

    fit = fitting._fitted
    monkeypatch.setattr(fitting, "_fitted", watched)
    fitting.cross_validate(rows)
    assert len(seen) == fitting.FOLDS
    assert all(sum(query in fold for fold in seen) == fitting.FOLDS - 1 for query in set(rows["query"]))
    seen.clear()
    fitting.cross_validate(rows, "category")
    assert len(seen) == 3


def test_what_cannot_be_learned_is_at_chance(rows):
    shuffled = rows.assign(complied=np.random.default_rng(1).permutation(rows["complied"]))
    found = fitting.cross_validate(shuffled)
    assert abs(((found >= 0.5) == shuffled["complied"]).mean() - 0.5) < 0.15


def test_the_file_holds_the_judge_to_the_bit_and_is_made_alike_twice(judge, rows, tmp_path):
    judge.save(tmp_path / "one.npz")
    fitting.fit(rows).save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    texts = rows["response"].tolist()
    assert (fitted.load(tmp_path / "one.npz").probabilities(texts) == judge.probabilities(texts)).all()
    versions = {fitted.open(tmp_path / name).version for name in ("one.npz", "two.npz")}
    assert len(versions) == 1 and versions.pop().startswith(f"{fitted.VERSION}-")


def test_pickles_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "pickle.npz", vocabulary=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("no judge")
    for name in ("pickle.npz", "text.npz", "lost.npz"):
        with pytest.raises(UserError, match="no fitted judge"):
            fitted.load(tmp_path / name)


def test_many_responses_are_shared_out_without_a_change(judge, monkeypatch):
    texts = [f"{ANSWER if n % 3 else REFUSAL} {n}" for n in range(50)]
    alone = judge.verdicts([""] * 50, texts)
    monkeypatch.setattr(fitted, "CHUNK", 8)
    assert judge.verdicts([""] * 50, texts) == alone


def test_too_few_rows_are_refused(rows):
    with pytest.raises(UserError, match="40 labelled rows are too few"):
        fitting.fit(rows.head(40))
