"""The cost table: seconds of all jobs, by stage, and the extrapolation."""

import re
from pathlib import Path

import pandas as pd
import pytest

from safety_heads.cost import BESIDE, STAGES, cost_markdown, cost_table, read_benchmarks, stage_of
from safety_heads.errors import UserError


@pytest.fixture
def folder(tmp_path):
    seconds = {"score_ships/m/d/1.tsv": 1800, "score_ships/m/d/2.tsv": 1800, "generate_responses/m/d.tsv": 3600}
    seconds |= {"write_summary.tsv": 36, "answer_for_map/m.tsv": 7200, "judge_for_map/m.tsv": 36}
    for name, value in seconds.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"s": [value], "cpu_time": [value / 2], "max_rss": [2000.0]}).to_csv(path, sep="\t", index=False)
    return tmp_path


def test_jobs_are_added_up_by_stage(folder):
    table = cost_table(read_benchmarks(folder), n_answers=100, n_heads=[12, 12], n_queries=50).set_index("stage")
    assert table.loc["Ships", ["jobs", "job_hours", "cpu_hours"]].tolist() == [2, 1.0, 0.5]
    assert table.loc["verdicts, tables, figures", "job_hours"] == 0.01
    assert table.loc["the run", "job_hours"] == 2.01 and table.loc["asr_map", "job_hours"] == 2.01
    [full] = [stage for stage in table.index if "extrapolated to 1,200 answers" in stage]
    assert table.loc[full, "job_hours"] == 12.0  # an hour for 100 answers
    assert table.index[:2].tolist() == ["Ships", "answers"]


def test_the_markdown_says_what_is_extrapolated(folder):
    text = cost_markdown(cost_table(read_benchmarks(folder), 100, [12], 50))
    assert "extrapolated" in text and "| Ships | 2 | 1.000 | 0.500 | 2.0 |" in text and "nan" not in text


def test_unsampled_jobs_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="no benchmark files"):
        read_benchmarks(tmp_path)
    pd.DataFrame({"s": [0.1], "cpu_time": ["-"], "max_rss": ["-"]}).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    assert cost_table(read_benchmarks(tmp_path), 0, [], 0)["job_hours"].iloc[0] == pytest.approx(0.1 / 3600)


def test_every_stage_is_known():
    assert stage_of("score_ships") == "Ships" and stage_of("draw_sign") == list(STAGES)[-1]
    assert stage_of("draw_experiments") == "experiments"


def test_the_rules_of_other_targets_exist():
    """A renamed rule would silently be counted as a part of the run."""
    files = (Path(__file__).parents[2] / "rules").glob("*.smk")
    found = set(re.findall(r"^(?:rule (\w+):|use rule \w+ as (\w+) with:)", "".join(map(Path.read_text, files)), re.M))
    assert {rule for rules in {**STAGES, **BESIDE}.values() for rule in rules} <= {one or two for one, two in found}
