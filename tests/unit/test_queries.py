"""The queries table: reading every format, the errors that name rows, splitting and sampling."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety_heads import queries, sources, tables
from safety_heads.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
TEXTS = ["bake bread", "brew tea", "fold a paper crane"]
WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=5), min_size=1, max_size=6)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def prepare(data: bytes, name: str = "a.csv", **spec) -> pd.DataFrame:
    return queries.prepare("toy", queries.DatasetSpec(**{"harmful": True, **spec}), {name: data})


def table(n: int, dataset: str = "toy") -> pd.DataFrame:
    return prepare("\n".join(f"{dataset} number {row}" for row in range(n)).encode(), "a.txt").assign(
        dataset=dataset, query_id=[f"{dataset}-{row:04d}" for row in range(n)]
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "goal\n" + "\n".join(TEXTS)),
        ("a.CSV", "\ufeffgoal,target\r\n" + "".join(f'"{text}",x\r\n' for text in TEXTS)),
        ("a.jsonl", "".join(json.dumps({"goal": text}) + "\n" for text in TEXTS) + "\n"),
        ("a.json", json.dumps([{"goal": text, "id": 1} for text in TEXTS])),
        ("a.json", json.dumps(TEXTS)),
        ("a.txt", "\r\n".join(TEXTS) + "\r\n"),
        ("a.parquet", parquet(pd.DataFrame({"goal": TEXTS, "n": [1, 2, 3]}, index=[7, 7, 7]))),
    ],
)
def test_every_format_gives_the_same_table(name, data, tmp_path):
    frame = prepare(data if isinstance(data, bytes) else data.encode(), name, rows=3, source="there")
    assert frame["text"].tolist() == TEXTS
    assert frame["query_id"].tolist() == ["toy-0000", "toy-0001", "toy-0002"]
    tables.write_table(frame, tables.QUERIES, tmp_path / "q.parquet")
    again = tables.read_table(tables.QUERIES, tmp_path / "q.parquet")
    assert again["harmful"].tolist() == [True] * 3 and set(again["source"]) == {"there"}


def test_whitespace_paragraphs_and_words_that_look_like_nothing():
    data = json.dumps([{"text": "  bake \t\n bread \n \nan answer"}, {"text": "NA"}, {"text": "null"}]).encode()
    assert prepare(data, "a.json", first_paragraph=True)["text"].tolist() == ["bake bread", "NA", "null"]
    assert prepare(data, "a.json")["text"].iloc[0] == "bake bread an answer"
    assert prepare(b"goal\nNA\nnan\n")["text"].tolist() == ["NA", "nan"]


def test_skip_keep_and_categories_leave_ids_as_they_were():
    data = b"goal,kind,topic\nskipped,good,\none,good,kitchen\ntwo,bad,\nthree,good,\n"
    frame = prepare(data, skip=1, keep={"column": "kind", "equals": "good"}, category="topic", rows=2)
    assert frame["query_id"].tolist() == ["toy-0001", "toy-0003"]
    assert frame["category"].fillna("none").tolist() == ["kitchen", "none"]


def test_several_files_are_numbered_on_and_named_in_errors():
    parts = {"a.txt": b"one\ntwo\n", "b.txt": b"three\nfour"}
    spec = queries.DatasetSpec(harmful=False)
    assert queries.prepare("toy", spec, parts)["query_id"].iloc[3] == "toy-0003"
    with pytest.raises(UserError, match=r"queries\.toy: b\.txt row 1 repeats a\.txt row 0"):
        queries.prepare("toy", spec, {**parts, "b.txt": b"three\n one "})


@pytest.mark.parametrize(
    ("data", "name", "spec", "message"),
    [
        (b"goal,x\na,b", "a.csv", {"column": "Goal"}, r"a\.csv has no column 'Goal'; its columns are goal, x"),
        (b"x\na", "a.csv", {}, "no column 'query' or 'text' or 'goal' or 'prompt'"),
        (b"goal\na", "a.csv", {"category": "topic"}, "no column 'topic'"),
        (b"goal,k\na,b", "a.csv", {"keep": {"column": "k", "equals": "c"}}, "no row has k = 'c'; there are b"),
        (b"goal\na\n\nb\n", "a.csv", {}, r"a\.csv row 1 is empty"),
        (b'goal,x\na,1\n"  ",2\n', "a.csv", {}, r"a\.csv row 1 is empty"),
        (b"a\n\nb\n", "a.txt", {}, r"a\.txt row 1 is empty"),
        (b'{"goal": "a"}\n{"goal": null}', "a.jsonl", {}, r"row 1 is empty"),
        (b'{"goal": "a"}\n{"other": "b"}', "a.jsonl", {}, r"row 1 is empty"),
        (b"goal\na b\nc\n a  b\n", "a.csv", {}, r"a\.csv row 2 repeats a\.csv row 0"),
        (b"goal\na\nb\n", "a.csv", {"rows": 3}, r"queries\.toy\.rows declares 3 queries, the source has 2"),
        (b"goal\na\n", "a.csv", {"skip": 1}, "no query is left"),
        (b"goal\nbake, brew\n", "a.csv", {}, "more fields than the header"),
        (b"goal\nbake\nbake, brew\n", "a.csv", {}, r"a\.csv is damaged or no \.csv file"),
        (b"goal\ncaf\xe9\n", "a.csv", {}, r"a\.csv is not UTF-8 text \(byte 8\)"),
        (b'{"goal": "a"}\n{"goal": ', "a.jsonl", {}, "line 2"),
        (b'{"goal": "a"}', "a.json", {}, "expected a list of objects"),
        (b"[]", "a.json", {}, "no query is left|no column"),
        (b'[{"prompt": [{"role": "user"}]}]', "a.json", {}, r"row 0 holds a list in 'prompt', not a text"),
        (b'[{"goal": "\\ud800 a"}]', "a.json", {}, "lone surrogate"),
        (b"PAR1", "a.parquet", {}, r"no \.parquet file"),
        (b"", "a.csv", {}, r"a\.csv is damaged"),
        (b"a", "a.xlsx", {}, r"no reader for '\.xlsx'; use \.csv"),
    ],
)
def test_bad_input_is_named_by_file_row_and_remedy(data, name, spec, message):
    with pytest.raises(UserError, match=message):
        prepare(data, name, **spec)


def test_declarations_are_checked(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    fetched = sources.fetch("mine", {"kind": "path", "path": str(tmp_path / "a.txt")}, tmp_path / "mine.json")
    assert len(queries.read_dataset("toy", {"source": "mine", "rows": 2, "harmful": False}, fetched)) == 2
    with pytest.raises(UserError, match=r"queries\.toy\.colum is unknown"):
        queries.read_dataset("toy", {"source": "mine", "colum": "goal", "harmful": True}, fetched)
    with pytest.raises(UserError, match=r"queries\.toy\.harmful is missing"):
        queries.read_dataset("toy", {"source": "mine"}, fetched)


@given(
    WORDS,
    st.sampled_from(["", " ", ".", "?!", " . ", "\u2026", "\u201d", "\n\t"]),
    st.sampled_from([" ", "\n", "  \t"]),
)
def test_partition_sees_neither_case_nor_whitespace_nor_final_punctuation(words, end, gap):
    plain, other = " ".join(words), "\n" + gap.join(words).swapcase() + end
    assert queries.normalised(plain) == queries.normalised(other)
    assert queries.partition(plain) == queries.partition(other) in queries.SIDES


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text):
    once = queries.normalised(text)
    assert queries.normalised(once) == once


def test_partition_is_fixed_and_about_half():
    sides = [queries.partition(f"query {number}") for number in range(2000)]
    assert 900 < sides.count("train") < 1100
    assert [queries.partition(text) for text in TEXTS] == ["train", "eval", "eval"]


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 20), st.integers(0, 5))
def test_samples_nest_and_skipping_continues_them(small, more, skip, seed):
    frame = table(80)
    large = queries.sample(frame, small + more, seed, skip)
    ids = large["query_id"].tolist()
    assert queries.sample(frame, small, seed, skip)["query_id"].tolist() == ids[:small]
    assert queries.sample(frame.iloc[::-1], small + more, seed, skip)["query_id"].tolist() == ids
    whole = queries.sample(frame, 80, seed)["query_id"].tolist()
    assert whole[skip : skip + small + more] == ids and len(set(whole)) == 80


def test_samples_differ_by_seed_and_say_when_there_are_too_few():
    frame = table(20)
    assert queries.sample(frame, 10, 0)["query_id"].tolist() != queries.sample(frame, 10, 1)["query_id"].tolist()
    with pytest.raises(UserError, match=r"toy: 15 queries wanted, 14 available \(20 less 6 skipped\)"):
        queries.sample(frame, 15, 0, skip=6)
    with pytest.raises(UserError, match="n >= 1"):
        queries.sample(frame, 0, 0)
    with pytest.raises(UserError, match="0 available"):
        queries.sample(frame.iloc[:0], 1, 0)


def test_overlaps_lists_ids_of_equal_texts_across_data_sets_only():
    first, second = table(4, "first"), table(3, "second")
    second.loc[2, "text"] = "FIRST  number 3."
    second.loc[1, "text"] = second.loc[0, "text"].upper()  # within a data set: none of its business
    pairs = queries.overlaps([first, second])
    assert pairs.to_dict("records") == [
        {"dataset_a": "first", "query_id_a": "first-0003", "dataset_b": "second", "query_id_b": "second-0002"}
    ]
    assert queries.overlaps([first]).empty


def test_query_files_given_by_hand(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("prompt,answer\nbake bread,x\n")
    frame = queries.read_query_file(mine)
    assert frame.loc[0, ["dataset", "query_id", "text", "source"]].tolist() == [
        "mine", "mine-0000", "bake bread", "mine.csv",
    ]  # fmt: skip
    tables.write_table(table(3), tables.QUERIES, tmp_path / "q.parquet")
    assert queries.read_query_file(tmp_path / "q.parquet")["query_id"].tolist() == table(3)["query_id"].tolist()
    tables.write_table(frame, tables.QUERIES, tmp_path / "null.parquet")
    assert queries.read_query_file(tmp_path / "null.parquet")["harmful"].isna().all()
    with pytest.raises(UserError, match="cannot be read"):
        queries.read_query_file(tmp_path / "none.csv")


def run_program(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_programs_from_file_to_overlaps_never_show_a_text(tmp_path):
    for name, rows in {"a": "secret one\nsecret two\n", "b": "secret three\nSecret two?\n"}.items():
        (tmp_path / f"{name}.txt").write_text(rows)
        declaration = json.dumps({"kind": "path", "path": str(tmp_path / f"{name}.txt")})
        manifest = tmp_path / f"{name}.json"
        fetched = run_program("fetch_source.py", "--name", name, "--declaration", declaration, "--output", manifest)
        assert fetched.returncode == 0, fetched.stderr
        declaration = json.dumps({"source": name, "harmful": True, "rows": 2})
        output = ["--source", manifest, "--output", tmp_path / f"{name}.parquet"]
        done = run_program("prepare_queries.py", "--dataset", name, "--declaration", declaration, *output)
        assert done.returncode == 0 and "2 queries" in done.stderr and "secret" not in done.stdout + done.stderr
        stamp = tables.read_provenance(tmp_path / f"{name}.parquet")["parameters"]
        assert stamp["dataset"] == name and list(stamp["checksums"]) == [f"{name}.txt"]
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    done = run_program("report_overlaps.py", "--queries", *parts, "--output", tmp_path / "overlaps.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "overlaps.csv").read_text().splitlines()[1:] == ["a,a-0001,b,b-0001"]
