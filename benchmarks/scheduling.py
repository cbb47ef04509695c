"""What the workflow itself costs beside its jobs: the real Snakefile, with sleeping stand-ins for all programs.

For each number of jobs: processor and wall seconds to build the DAG (a dry run) and to run it, and so per job. The
stand-ins only write their outputs, so all processor time is overhead (Snakemake, bash, the start of Python). Its share
of the whole is given for jobs of --minutes. Prints a table, writes it as CSV, and times the DAG of config/paper.yaml.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from safety_heads.shapes import known_shapes  # noqa: E402

SHAPE = known_shapes()["HuggingFaceTB/SmolLM2-135M-Instruct"]
STAND_IN = """\
import sys, time
time.sleep({seconds})
words = sys.argv[1:]
for option, path in zip(words, words[1:]):
    if option.startswith("--output"):
        with open(path, "w") as stream:
            stream.write({manifest!r} if path.endswith("model.json") else "")
"""


@dataclass(frozen=True)
class Spent:
    """Seconds of processors and by the clock."""

    cpu_s: float
    wall_s: float


def main() -> None:
    args = parser().parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paper = snakemake(
            checkout(Path(folder) / "paper", 0), "-n", "--quiet", "all", "--configfile", "config/paper.yaml"
        )
        print(f"DAG of config/paper.yaml: {paper.cpu_s:.1f} s of a processor, {paper.wall_s:.1f} s by the clock")
        for n_jobs in args.jobs:
            rows.append(measure(Path(folder) / str(n_jobs), n_jobs, args))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3f"))
    if args.output:
        table.to_csv(args.output, index=False, float_format="%.3f")


def measure(folder: Path, n_jobs: int, args: argparse.Namespace) -> dict:
    """One row: the DAG of about `n_jobs` jobs and their run."""
    project = checkout(folder, args.sleep)
    write_config(project, n_jobs)
    dag = snakemake(project, "ships", "-n", "--quiet", "all")
    run = snakemake(project, "ships", "--quiet", "all", "--cores", str(args.cores))
    n_done = sum(1 for path in (project / "results/benchmarks").rglob("*.tsv"))
    per_job = run.cpu_s / n_done
    return {
        "jobs": n_done,
        "dag_cpu_s": dag.cpu_s,
        "dag_wall_s": dag.wall_s,
        "run_cpu_s": run.cpu_s,
        "run_wall_s": run.wall_s,
        "overhead_cpu_s_per_job": per_job,
        "share_percent": 100 * per_job / (per_job + args.minutes * 60),
    }


def checkout(folder: Path, seconds: float) -> Path:
    """The project with stand-ins for its programs, a model's config.json and a file of queries."""
    for name in ("rules", "schemas", "profiles", "report", "config", "data", "envs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    manifest = json.dumps({"name": "stand-in", **asdict(SHAPE)})
    for program in (folder / "scripts").glob("*.py"):
        program.write_text(STAND_IN.format(seconds=seconds, manifest=manifest))
    return folder


def write_config(project: Path, n_jobs: int) -> None:
    """A run whose target `ships` has about `n_jobs` jobs: one model, two data sets, as many shards as it takes."""
    model = {"num_hidden_layers": 30, "num_attention_heads": 9, "hidden_size": 576, "vocab_size": 49152}
    (project / "model").mkdir()
    (project / "model/config.json").write_text(json.dumps({**model, "intermediate_size": 1536}))
    (project / "queries.txt").write_text("harmful query 1\n")
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["sources"]["own"] = {"kind": "path", "path": "queries.txt"}
    config["queries"] |= {name: {"source": "own", "harmful": True} for name in ("first", "second")}
    config["models"] = {"stand-in": {"path": "model", "head_shards": max(1, (n_jobs - 6) // 2)}}
    config["run"] |= {"models": ["stand-in"], "queries": ["first", "second"], "screen": "none"}
    config["run"] |= {"score_queries": 1, "generate_queries": 1, "rank": 1}
    (project / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake(project: Path, *arguments: str) -> Spent:
    """Run snakemake in `project` and say what it, and all that it started, spent."""
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Spent(cpu, time.monotonic() - started)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, nargs="+", default=[10, 100, 1000])
    options.add_argument("--sleep", type=float, default=0, help="seconds that every job lasts (default 0)")
    options.add_argument("--minutes", type=float, default=10, help="length of real jobs, for the share (default 10)")
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--output", metavar="CSV")
    return options


if __name__ == "__main__":
    main()
