"""Print what a run would take: jobs, memory, run time, GPU hours and disk of every rule. Nothing is fetched or run."""

import argparse
import json
import tempfile
from pathlib import Path

from safety_heads import logs, plan, shapes
from safety_heads.files import atomic_path

NOTES = """
Memory and run time are what the scheduler is asked for at the first attempt, of the rule's largest job (empty: the
profile's default). GPU hours are of A100s with 80 GB as docs/scaling.md predicts them; answers count at full length.
"""


def run(args: argparse.Namespace) -> None:
    config = json.loads(args.config)
    results = config.get("pathvars", {}).get("results", "results")
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "config.json"
        merged.write_text(args.config, encoding="utf-8")
        how = ["--configfile", str(merged), "--replace-workflow-config", *args.options]
        jobs = plan.dry_run([*args.targets, *how])
    if not jobs:
        print("Nothing is left to be done.")
        return
    table = plan.plan_table(jobs, config, results)
    print(f"# What is left to do for: {' '.join(args.targets)}\n\n{plan.plan_text(table)}{NOTES}")
    if assumed := plan.assumed_models(config, results, jobs):
        print(
            f"Of {', '.join(assumed)} no sizes are known yet; planned as {shapes.ASSUMED}. Add to {shapes.KNOWN.name}."
        )
    if args.output:
        with atomic_path(args.output) as partial:
            table.to_csv(partial, index=False)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", required=True, metavar="JSON", help="the whole configuration")
    options.add_argument("--targets", nargs="+", default=["all"], help="rules or files (default: all)")
    options.add_argument("--output", metavar="CSV", help="the plan as a table")
    options.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="for snakemake, e.g. a profile")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
