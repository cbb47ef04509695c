"""Take some of a setting's interventions for an experiment, under names that say which experiment it is."""

import argparse
import logging

import pandas as pd

from safety_heads import interventions, logs, tables
from safety_heads.errors import UserError

SCARCE = ("carrier-", "suppressor-", "layer-")  # a model may never refuse, or have few heads in a layer


def run(args: argparse.Namespace) -> None:
    key = {"model": args.name, "dataset": args.dataset, "format": args.format}
    parts = [tables.read_table(tables.INTERVENTIONS, path) for path in args.interventions]
    plan = pd.concat(parts or [interventions.unablated()], ignore_index=True).assign(**key)
    missing = sorted(set(args.keep) - set(plan["intervention"]))
    if unknown := [name for name in missing if not name.startswith(SCARCE)]:
        raise UserError(
            f"intervention {unknown[0]!r} is unknown; choose from {', '.join(plan['intervention'].unique())}"
        )
    if missing:
        logging.warning("%s has no %s: `none` stands in", args.name, ", ".join(missing))
    kept = [*args.keep, "none"] if missing else args.keep
    chosen = plan[plan["intervention"].isin(kept)]
    named = chosen.assign(intervention=f"{args.label}+" + chosen["intervention"])
    tables.write_table(named, tables.INTERVENTIONS, args.output, label=args.label)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--interventions", nargs="*", default=[], metavar="PARQUET", help="default: `none` only")
    options.add_argument("--keep", required=True, nargs="+", metavar="NAME", help="e.g. none ships-ua-1")
    options.add_argument("--label", required=True, help="the experiment's name, put before the intervention's")
    options.add_argument("--name", required=True, help="the model's name in the tables")
    options.add_argument("--dataset", required=True)
    options.add_argument("--format", required=True)
    options.add_argument("--output", required=True, metavar="PARQUET", help="an interventions table")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
