"""What a run has cost, stage by stage, beside what full generation for every head would (paper, table 2).

Snakemake's benchmark files, `<rule>/.../*.tsv`, hold the seconds of every job. The comparison is extrapolated from the
run's own answers, and says so.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from safety_heads.errors import UserError
from safety_heads.markdown import markdown_table

STAGES = {
    "data": ("fetch_source", "prepare_queries", "report_overlaps"),
    "models": ("fetch_model", "prepare_model", "answer_benign_queries", "align_model", "measure_alignment"),
    "Ships": ("find_refusal_openings", "score_ships", "gather_ships"),
    "Sahara": ("score_group", "choose_interventions", "gather_subspace"),
    "answers": ("generate_responses",),
    "verdicts, tables, figures": (),  # all others of the default run
}
BESIDE = {  # other targets, which are no part of the run's sum
    "asr_map": ("list_heads", "answer_for_map", "judge_for_map", "summarise_map", "draw_asr_map"),
    "experiments": (
        *("pick_interventions", "answer_experiment", "judge_experiments", "summarise_experiments"),
        "draw_experiments",
    ),
    "attention_maps": ("trace_attention", "draw_attention_maps"),
    "helpfulness": ("prepare_task", "measure_helpfulness", "tabulate_helpfulness", "draw_helpfulness"),
    "judge_cards": ("grade_by_category", "tabulate_cards"),
    "others": (
        *("write_full_scorecard", "write_full_page", "write_annotation_page", "compare_annotations"),
        *("plan", "plan_paper", "record_run", "verify"),
    ),
}


def read_benchmarks(folder: str | Path) -> pd.DataFrame:
    """One row per job: rule, seconds (wall), cpu_seconds, peak_mb. Raises UserError for a folder without any."""
    rows = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        rows += [
            {"rule": rule, "seconds": row.s, "cpu_seconds": row.cpu_time, "peak_mb": row.max_rss}
            for row in pd.read_csv(path, sep="\t", na_values="-").itertuples()
        ]
    if not rows:
        raise UserError(f"{folder} holds no benchmark files; run the workflow first")
    return pd.DataFrame(rows)


def stage_of(rule: str) -> str:
    """The stage that a rule belongs to; another target is one stage."""
    return next((stage for stage, rules in {**STAGES, **BESIDE}.items() if rule in rules), list(STAGES)[-1])


def cost_table(jobs: pd.DataFrame, n_answers: int, n_heads: Sequence[int], n_queries: int) -> pd.DataFrame:
    """Jobs, hours of jobs and of processors, and peak memory per stage, the sum, and the extrapolation.

    `n_answers` is how many answers the stage `answers` gave; `n_heads` those of each model; `n_queries` the harmful
    queries that are answered per model. Full generation answers each of these once per head.
    """
    stages = jobs.groupby(jobs["rule"].map(stage_of)).agg(
        jobs=("rule", "size"),
        job_hours=("seconds", "sum"),
        cpu_hours=("cpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    stages[["job_hours", "cpu_hours"]] /= 3600
    order = [stage for stage in STAGES if stage in stages.index]
    stages = stages.reindex([*order, *stages.index.difference(order)])
    table = pd.concat([stages, _sum(stages.loc[order], "the run")])
    if "answers" in stages.index and n_answers:
        n_full = sum(n_heads) * n_queries
        full = stages.loc[["answers"], ["job_hours", "cpu_hours"]] * n_full / n_answers
        table = pd.concat(
            [table, full.set_axis([f"full generation for every head (extrapolated to {n_full:,} answers)"])]
        )
    return table.rename_axis("stage").reset_index()


def _sum(stages: pd.DataFrame, name: str) -> pd.DataFrame:
    sums = stages[["jobs", "job_hours", "cpu_hours"]].sum()
    return pd.DataFrame({**sums, "peak_mb": stages["peak_mb"].max()}, index=[name])


def cost_markdown(table: pd.DataFrame) -> str:
    """`cost_table` for reading, with what its last line means."""
    shown = pd.DataFrame(
        {
            "stage": table["stage"],
            "jobs": table["jobs"].map(lambda n: "" if pd.isna(n) else f"{n:.0f}"),
            "job hours": table["job_hours"].map("{:.3f}".format),
            "CPU hours": table["cpu_hours"].map("{:.3f}".format),
            "peak memory, GB": table["peak_mb"].map(lambda mb: "" if pd.isna(mb) else f"{mb / 1000:.1f}"),
        }
    )
    note = (
        "Wall time of the jobs added up, time of the processors as Snakemake samples it (every 30 s, so it misses the "
        "end of a job), and the largest job's memory. The last line multiplies this run's seconds per answer by heads "
        "and queries: what the answers alone would take if every head were tried by full generation with this engine.\n"
    )
    return f"{markdown_table(shown)}\n{note}"
