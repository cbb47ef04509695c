"""Take some of a setting's interventions for an experiment, under names that say which experiment it is."""

import argparse

from safety_heads import interventions, logs, tables
from safety_heads.errors import UserError


def run(args: argparse.Namespace) -> None:
    key = {"model": args.name, "dataset": args.dataset, "format": args.format}
    plan = interventions.unablated().assign(**key)
    if args.interventions:
        plan = tables.read_table(tables.INTERVENTIONS, args.interventions).assign(**key)
    if missing := set(args.keep) - set(plan["intervention"]):
        known = ", ".join(plan["intervention"].unique())
        raise UserError(f"intervention {min(missing)!r} is unknown; choose from {known}")
    chosen = plan[plan["intervention"].isin(args.keep)]
    named = chosen.assign(intervention=f"{args.label}+" + chosen["intervention"])
    tables.write_table(named, tables.INTERVENTIONS, args.output, label=args.label)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--interventions", metavar="PARQUET", help="of choose_interventions.py (default: none only)")
    options.add_argument("--keep", required=True, nargs="+", metavar="NAME", help="e.g. none ships-ua-1")
    options.add_argument("--label", required=True, help="the experiment's name, put before the intervention's")
    options.add_argument("--name", required=True, help="the model's name in the tables")
    options.add_argument("--dataset", required=True)
    options.add_argument("--format", required=True)
    options.add_argument("--output", required=True, metavar="PARQUET", help="an interventions table")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
