import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version, validate

min_version("9.27")


pathvars:
    results="results",
    logs="results/logs",
    benchmarks="results/benchmarks",


configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/queries.smk"
include: "rules/judges.smk"
include: "rules/models.smk"
include: "rules/scores.smk"
include: "rules/answers.smk"
include: "rules/asr_map.smk"
include: "rules/figures.smk"
include: "rules/experiment_inputs.smk"
include: "rules/report.smk"
include: "rules/attention.smk"
include: "rules/experiments.smk"
include: "rules/annotation.smk"
include: "rules/helpfulness.smk"
include: "rules/full_report.smk"
include: "rules/plan.smk"
include: "rules/trust.smk"


rule all:
    default_target: True
    input:
        "<results>/report/index.html",
        "<results>/queries/overlaps.csv",
        "<results>/manifest.json",


rule ships:
    input:
        tables_of_models("ships"),


rule sahara:
    input:
        attacks(f"{SCORES}/sahara.parquet"),


rule asr:
    input:
        tables_of_models("asr"),
        "<results>/tables/table3.csv",


rule asr_map:
    input:
        attacks(BESIDE["asr_map"]),


rule attention_maps:
    input:
        attacks(BESIDE["attention_maps"]),


rule experiments:
    input:
        attacks(BESIDE["experiments"]),


rule helpfulness:
    input:
        attacks(BESIDE["helpfulness"]),


rule annotate:
    input:
        "<results>/annotation/page.html",
        ["<results>/judges/human.md"] if config["annotation"]["labels"] else [],


rule judge_cards:
    input:
        "<results>/judges/cards.csv",


rule figures:
    input:
        all_figures(),


rule paper:
    input:
        rules.all.input,
        "<results>/report/full.html",
        "<results>/scorecard_full.md",


onsuccess:
    if (summary := Path(RESULTS) / "summary.md").is_file():
        print(summary.read_text(encoding="utf-8"))
