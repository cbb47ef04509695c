"""Count judgements into attack success rates with Wilson intervals (paper, appendix B)."""

import argparse

from safety_heads import logs, tables
from safety_heads.manifests import head_shares
from safety_heads.statistics import asr_table


def run(args: argparse.Namespace) -> None:
    judgements = tables.read_table(tables.JUDGEMENTS, args.judgements)
    interventions = tables.read_table(tables.INTERVENTIONS, args.interventions)
    table = asr_table(judgements, interventions, head_shares(args.manifests))
    tables.write_table(table, tables.ASR, args.output, interval="wilson 95 %")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--judgements", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--interventions", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="model.json of each model")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
