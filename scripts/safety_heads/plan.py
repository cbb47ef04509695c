"""What a run will take before it starts: Snakemake's own dry run, and for each of its jobs the predicted need."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from safety_heads import resources, shapes
from safety_heads.errors import UserError
from safety_heads.markdown import markdown_table

_RULE = re.compile(r"^(?:local)?rule (\w+):$")
_FACT = re.compile(r"^    (wildcards|threads|resources|output): (.*)$")
NO_WORK = "Nothing to be done"
LIGHT = "the rules without a model"


@dataclass
class PlannedJob:
    """A job that the dry run announces: its rule, wildcards, threads, the resources asked for, and its files."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    asked: dict[str, str] = field(default_factory=dict)
    n_files: int = 0


def dry_run(arguments: Sequence[str]) -> list[PlannedJob]:
    """The jobs that `snakemake ARGUMENTS` would run. Raises UserError with snakemake's reason if it would not."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--nocolor"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the dry run failed: {(done.stdout + done.stderr).strip()[-2000:]}")
    jobs = parse(done.stdout.splitlines())
    if not jobs and NO_WORK not in done.stdout + done.stderr:
        raise UserError("the dry run announced no job; is it silenced (--quiet) by a profile?")
    return jobs


def parse(lines: Sequence[str]) -> list[PlannedJob]:
    """The jobs in a dry run's text; target rules, which run nothing, are left out."""
    jobs: list[PlannedJob] = []
    for line in lines:
        if named := _RULE.match(line):
            jobs.append(PlannedJob(named[1]))
        elif (fact := _FACT.match(line)) and jobs:
            _take(jobs[-1], *fact.groups())
    return [job for job in jobs if job.n_files]


def _take(job: PlannedJob, name: str, value: str) -> None:
    parts = value.split(", ")
    if name == "threads":
        job.threads = int(value)
    elif name == "output":
        job.n_files = len(parts)
    else:
        pairs = dict(part.split("=", 1) for part in parts if "=" in part)
        (job.wildcards if name == "wildcards" else job.asked).update(pairs)


def plan_table(jobs: Sequence[PlannedJob], config: Mapping, results: str) -> pd.DataFrame:
    """One row per rule: jobs, files, memory and run time of the largest, predicted hours and disk.

    `gpu_hours` are those of as many GPUs as the model needs; `thread_hours` those of CPU threads, were there no GPU.
    """
    rows = []
    for job in jobs:
        need = resources.need(config, results, job.rule, job.wildcards)
        cpu = need.seconds(False, job.threads) * job.threads / 3600
        rows.append(
            {
                "rule": job.rule if job.rule in resources.FORMULAS else LIGHT,
                "files": job.n_files + 2,  # and a log and a benchmark
                "mem_mb": int(job.asked.get("mem_mb", 0)),
                "minutes": int(job.asked.get("runtime", 0)),
                "gpus": need.n_gpus,
                "gpu_hours": need.seconds(True) * need.n_gpus / 3600,
                "thread_hours": cpu,
                "disk_gib": need.disk_mib / 1024,
            }
        )
    frame = pd.DataFrame(rows)
    largest, sums = ["mem_mb", "minutes", "gpus"], ["files", "gpu_hours", "thread_hours", "disk_gib"]
    how = {"jobs": ("rule", "size"), **{name: (name, "max") for name in largest}}
    table = frame.groupby("rule", sort=False).agg(**how, **{name: (name, "sum") for name in sums})
    total = {"jobs": table["jobs"].sum(), **table[largest].max(), **table[sums].sum()}
    table = table.loc[sorted(table.index, key=lambda rule: [*resources.FORMULAS, LIGHT].index(rule))]
    table.loc["all rules"] = pd.Series(total)
    return table.reset_index()


def plan_text(table: pd.DataFrame) -> str:
    """`plan_table` for reading."""
    asked = {"mem_mb": "memory, MB", "minutes": "run time, min", "gpus": "GPUs"}
    shown = pd.DataFrame({"rule": table["rule"], "jobs": table["jobs"].astype(int)})
    for column, title in asked.items():
        shown[title] = table[column].map(lambda value: f"{value:.0f}" if value else "")
    hours = {"gpu_hours": "GPU hours", "thread_hours": "or CPU thread hours", "disk_gib": "disk, GiB"}
    for column, title in hours.items():
        shown[title] = table[column].map("{:.2f}".format)
    shown["files"] = table["files"].astype(int)
    return markdown_table(shown)


def assumed_models(config: Mapping, results: str, jobs: Sequence[PlannedJob]) -> list[str]:
    """Models of the jobs whose sizes nothing tells yet."""
    names = dict.fromkeys(job.wildcards["model"] for job in jobs if "model" in job.wildcards)
    return [name for name in names if shapes.shape_of(config, name, results)[1] == "assumed"]
