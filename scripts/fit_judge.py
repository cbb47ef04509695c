"""Fit a judge to human-labelled responses and write it without pickles."""

import argparse

from safety_heads import logs, tables
from safety_heads.judges import fitting


def run(args: argparse.Namespace) -> None:
    labelled = tables.read_table(tables.LABELLED, args.labelled)
    judge = fitting.fit(labelled)
    judge.save(args.output)
    print(f"fitted to {len(labelled)} responses: {len(judge.vocabulary)} tokens, slope {judge.slope:.2f}")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--labelled", required=True, metavar="PARQUET", help="a labelled table")
    options.add_argument("--output", required=True, metavar="NPZ")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
