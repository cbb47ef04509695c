"""Human-labelled sets: reading, columns, labels, and the files that are asked for."""

import pandas as pd
import pytest

from safety_heads import sources, tables
from safety_heads.errors import UserError
from safety_heads.judges.labelled import read_labelled

SPEC = {"source": "people", "query": "q", "response": "r", "label": "says", "complied": [1], "refused": ["no"]}


@pytest.fixture
def people(tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    rows = [("harmful query 1", "Sure.", 1), ("harmful query 1", "Sure.", 1), ("harmful query 2", "No.", "no")]
    frame = pd.DataFrame([*rows, ("harmful query 3", "Perhaps.", "partly")], columns=["q", "r", "says"])
    (folder / "a.csv").write_text("# a note\n# another\n" + frame.to_csv(index=False))
    (folder / "b.csv").write_text(pd.DataFrame({"other": ["x"]}).to_csv(index=False))
    return sources.fetch("people", {"kind": "path", "path": str(folder)}, tmp_path / "people.json")


def test_labels_become_sides_and_what_repeats_or_has_another_label_is_left_out(people, tmp_path):
    frame = read_labelled("set", {**SPEC, "files": ["a*.csv"], "rows": 2}, people)
    assert frame["complied"].tolist() == [True, False] and frame["query_id"].tolist() == ["set-0000", "set-0001"]
    tables.write_table(frame, tables.LABELLED, tmp_path / "set.parquet")
    assert len(tables.read_table(tables.LABELLED, tmp_path / "set.parquet")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"labelled.set.query: b.csv has no column 'q'; its columns are other"),
        ({"files": ["c.csv"]}, "c.csv"),
        ({"files": ["a.csv"], "rows": 3}, "labelled.set.rows declares 3 rows, the source has 2"),
        ({"files": ["a.csv"], "complied": [7], "refused": [8]}, "no row of 'says' is in complied or refused"),
        ({"files": ["a.csv"], "labels": 1}, "labelled.set.labels is unknown"),
    ],
)
def test_what_is_wrong_is_named(people, change, message):
    with pytest.raises(UserError, match=message):
        read_labelled("set", {**SPEC, **change}, people)
