"""The workflow as written: linters, dry runs of every target, and refusals before any work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from safety_heads import selection
from tests.workflow.conftest import ROOT, checkout, environment

PROGRAMS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
COMPUTE = {"find_refusal_openings", "score_ships", "score_group", "generate_responses", "align_model"}


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "snakefmt --check .", "snakemake --lint"])
def test_linters_find_nothing(command):
    done = subprocess.run(command.split(), cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["all", "ships", "sahara", "asr", "figures"])
def test_every_target_can_be_planned(tiny, target):
    jobs = tiny.dry_jobs(target, "--forceall")
    n_datasets = 1 if target in ("sahara", "asr") else 2  # benign ones are scored for the heat map only
    assert jobs["score_ships"] == n_datasets * (2 + 1)  # x shards of tiny-a and of tiny-b
    assert ("score_group" in jobs) == (target != "ships")
    assert ("write_report_page" in jobs) == (target == "all")


def test_the_map_needs_the_scores_and_all_heads(tiny):
    jobs = tiny.dry_jobs("asr_map", "--forceall")
    assert jobs["score_ships"] == jobs["list_heads"] == jobs["answer_for_map"] == 2 + 1  # shards
    assert jobs["draw_asr_map"] == 2 and "score_group" not in jobs


def test_helpfulness_needs_the_interventions_and_every_task(tiny):
    jobs = tiny.dry_jobs("helpfulness", "--forceall")
    assert jobs["prepare_task"] == 5 and jobs["choose_interventions"] == 2 and "generate_responses" not in jobs
    assert jobs["tabulate_helpfulness"] == jobs["draw_helpfulness"] == 2
    assert jobs["measure_helpfulness"] == 2 * len(selection.treatments(tiny.config()))
    assert jobs["fetch_source"] == 2 + 1  # the queries' sources, and the tasks'
    assert "prepare_task" not in tiny.dry_jobs("all", "--forceall")


def test_a_judge_is_opened_once_for_each_model(tiny):
    jobs = tiny.dry_jobs("--forceall")
    assert jobs["judge_responses"] == 2 * 2  # judges x models, whatever the data sets and formats
    assert jobs["fit_judge"] == 1 and jobs["grade_judge"] == 2
    assert jobs["draw_judges"] == jobs["draw_asr_bars"] == 2 and jobs["compare_judges"] == 1


def test_judge_cards_measure_every_declared_judge(tiny):
    jobs = tiny.dry_jobs("judge_cards", "--forceall")
    assert jobs["grade_judge"] == len(tiny.config()["judges"]) and jobs["grade_by_category"] == 1
    assert "generate_responses" not in jobs and "judge_responses" not in jobs


def test_experiments_with_foreign_weights_need_a_base(tiny):
    jobs = tiny.dry_jobs("experiments", "--forceall")
    assert jobs["pick_interventions"] == jobs["answer_experiment"] == 5 + 3
    assert jobs["judge_experiments"] == 2 * 2  # models x judges
    assert jobs["draw_experiments"] == 2 and "score_group" in jobs  # interventions come from Ships and Sahara


def test_the_spot_check_is_compared_once_there_are_labels(tiny, tmp_path):
    jobs = tiny.dry_jobs("annotate", "--forceall")
    assert jobs["write_annotation_page"] == 1 and "compare_annotations" not in jobs and "summarise_asr" not in jobs
    (tmp_path / "labels.csv").write_text("")
    labels = f"annotation={{labels: {tmp_path}/labels.csv}}"
    assert tiny.dry_jobs("annotate", "--forceall", "--config", labels)["compare_annotations"] == 1


def test_the_embedded_run_aligns_two_models(tiny, real_config):
    jobs = tiny.dry_jobs("--forceall", "--configfile", str(real_config), "--replace-workflow-config")
    assert jobs["align_model"] == jobs["measure_alignment"] == 2
    assert jobs["prepare_model"] == 3


def test_paper_is_everything(tiny):
    jobs = tiny.dry_jobs("paper", "--forceall")
    assert {"write_report_page", "draw_asr_map", "draw_attention_maps", "draw_experiments"} <= set(jobs)
    assert jobs["draw_helpfulness"] == 2 and jobs["write_full_scorecard"] == 1
    assert jobs["trace_attention"] == 2


@pytest.mark.parametrize(("preset", "n_models", "n_datasets"), [("paper", 3, 4), ("modern", 4, 4)])
def test_the_presets_can_be_planned_without_network_or_weights(tmp_path, preset, n_models, n_datasets):
    project = checkout(tmp_path)
    options = ("--forceall", "--configfile", f"config/{preset}.yaml")
    jobs = project.dry_jobs(*options)
    assert jobs["fetch_model"] == jobs["prepare_model"] == n_models and "align_model" not in jobs
    n_formats = 2 if preset == "paper" else 1
    shards = 8 + 8 + 2 if preset == "paper" else 8 * n_models
    assert jobs["score_ships"] == shards * n_datasets * n_formats
    assert jobs["generate_responses"] == n_models * (n_datasets - 1) * n_formats
    assert project.dry_jobs("helpfulness", *options)["prepare_task"] == 5  # from the hub, without a source
    with_bases = project.dry_jobs("experiments", *options)
    assert with_bases["prepare_model"] == n_models + (preset == "paper")  # and the base of two


def test_the_embedded_models_can_be_taken_through_the_whole_paper(tmp_path):
    project = checkout(tmp_path)
    jobs = project.dry_jobs("paper", "--forceall", "--configfile", "config/embedded.yaml")
    assert jobs["answer_experiment"] == 2 * (10 * 3 + 1)  # on three harmful data sets, and one on the benign one
    assert jobs["score_group"] == 2 * 3 * (4 + 4 + 4)  # steps 2 to 5 in chat, template and direct format


@pytest.fixture
def real_config(tmp_path):
    """The project's own configuration, for the tiny checkout has another."""
    path = tmp_path / "config.yaml"
    path.write_text((ROOT / "config.yaml").read_text())
    return path


def test_the_slurm_profile_can_be_planned(tiny):
    done = tiny.snakemake("-n", "--forceall", "--workflow-profile", "profiles/slurm", cores=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpu=1" in done.stdout and "slurm_partition=gpu" in done.stdout


def test_every_rule_logs_and_benchmarks_and_every_computing_rule_has_threads():
    for path in (ROOT / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?=rule |use rule )", path.read_text())[1:]:
            name = re.match(r"(?:use )?rule (?:\w+ as )?(\w+)", rule)[1]
            assert "log:" in rule, name
            assert "benchmark:" in rule or name in ("write_config", "plan", "plan_paper", "verify"), name
            assert "threads:" in rule or name not in COMPUTE, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(modles={}), "modles"),
        (lambda config: config["run"].update(models=["tiny-c"]), "run.models: 'tiny-c' is not declared"),
        (lambda config: config["run"].update(judges=["keyword"]), "run.judges: 'keyword' is not declared"),
        (lambda config: config["judges"]["fitted"].update(labelled="peeple"), "judges.fitted.labelled: 'peeple'"),
        (lambda config: config["ablations"].update(ua=0), "ablations"),
        (lambda config: config["sources"]["bad"].update(path="own/lost.csv"), "sources.bad.path: own/lost.csv"),
        (lambda config: config["helpfulness"].update(source="olmo"), "helpfulness.source: 'olmo' is not declared"),
        (lambda config: config["helpfulness"]["files"].pop("rte"), "helpfulness.files.rte is missing"),
        (lambda config: config["helpfulness"].update(interventions=["ships-ua-1"]), "helpfulness"),
        (lambda config: config["models"]["tiny-a"].update(path="own"), "models.tiny-a.path"),
    ],
)
def test_a_wrong_configuration_stops_before_any_work(tiny, tmp_path, change, message):
    import yaml

    config = tiny.config()
    change(config)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    done = tiny.snakemake("--configfile", str(path), "--replace-workflow-config")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def run_program(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_its_options(program):
    done = run_program(program, "--help")
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"sentence": ["harmful query 1"]}), "no column 'query' or 'text'"),
        (pd.DataFrame({"query": ["harmful query 1", ""]}), "row 1 is empty"),
        (pd.DataFrame({"query": ["harmful query 1", "harmful query 1"]}), "row 1 repeats"),
    ],
)
def test_bad_query_files_are_named_with_their_rows(tmp_path, table, message):
    table.to_csv(tmp_path / "mine.csv", index=False)
    options = ["--model", tmp_path, "--queries", tmp_path / "mine.csv", "--format", "chat", "--ablation", "ua"]
    done = run_program("score_ships.py", *options, "--output", tmp_path / "ships.parquet")
    assert done.returncode == 1
    assert message in done.stderr and "mine.csv" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_a_model_and_an_epsilon_out_of_range_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("harmful query 1\nharmful query 2\n")
    options = ["--model", tmp_path, "--queries", tmp_path / "mine.txt", "--format", "chat", "--ablation", "ua"]
    done = run_program("score_ships.py", *options, "--output", tmp_path / "ships.parquet")
    assert done.returncode == 1 and "holds no config.json" in done.stderr
    done = run_program("score_ships.py", *options, "--epsilon", "2", "--output", tmp_path / "ships.parquet")
    assert done.returncode == 1 and "epsilon 2.0 is outside (0, 1]" in done.stderr
    assert not (tmp_path / "ships.parquet").exists()


def test_a_group_larger_than_the_model_is_refused_as_soon_as_the_model_is_known(tiny, tmp_path):
    options = ["--name", "tiny-a", "--path", tiny.folder / "own/tiny-a", "--output", tmp_path / "tiny-a/model.json"]
    assert run_program("prepare_model.py", *options, "--group-size", 6).returncode == 0
    done = run_program("prepare_model.py", *options, "--group-size", 13)
    assert done.returncode == 1 and "run.group_size 13 is too large for models.tiny-a" in done.stderr


def test_a_results_folder_that_cannot_be_written_is_refused(tiny, tmp_path):
    import yaml

    blocked = tmp_path / "a file"
    blocked.write_text("")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**tiny.config(), "pathvars": {"results": f"{blocked}/results"}}))
    done = tiny.snakemake("--configfile", str(path), "--replace-workflow-config")
    assert done.returncode != 0
    assert "cannot be written" in done.stdout + done.stderr


def test_nothing_names_this_machine():
    """The project stands alone: no absolute path of the machine it was written on."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    home = str(Path(os.sep, "work"))
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".smk", ".yaml", ".md", ".toml", ".txt", ".rst", ".cff"} or path.name == "Makefile":
            assert f"{home}/" not in path.read_text(encoding="utf-8"), name


@pytest.mark.parametrize("options", [[], ["--workflow-profile", "profiles/slurm"]])
def test_the_plan_of_the_papers_models_needs_neither_network_nor_weights(tmp_path, options):
    """Its jobs are those that a dry run announces, and nothing is left behind but the log."""
    project = checkout(tmp_path)
    done = project.snakemake("plan", "--configfile", "config/paper.yaml", *options, cores=None if options else 2)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    table = {row[0]: row[1:] for row in rows[2:]}
    announced = project.dry_jobs("--configfile", "config/paper.yaml")
    assert int(table["score_ships"][0]) == announced["score_ships"] == (2 * 8 + 2) * 4 * 2  # shards, data sets, formats
    assert int(table["all rules"][0]) == sum(announced.values()) < 1000
    assert int(table["score_ships"][1]) > 15_000 and 0.5 < float(table["score_ships"][4]) < 20  # MB, GPU hours
    assert (int(table["score_ships"][2]) < 60) == bool(options)  # minutes; the SLURM profile gives it a GPU
    assert float(table["fetch_model"][6]) == pytest.approx(40.1, abs=0.3)  # GiB: twice 6.7 and 8 billion weights
    assert not (tmp_path / "results/hub").exists() and not (tmp_path / "results/models").exists()


def test_what_a_site_must_fill_in_is_marked():
    lines = (ROOT / "profiles/slurm/profile.yaml").read_text().splitlines()
    sites = [line for line in lines if any(key in line for key in ("slurm_account:", "slurm_partition:"))]
    assert len(sites) == 13 and all("# CHANGE" in line for line in sites)
