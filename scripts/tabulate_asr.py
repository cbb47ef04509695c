"""Tabulate the change of ASR against the number of ablated heads, as CSV and Markdown (paper, tables 3 and 5)."""

import argparse

from safety_heads import logs, tables
from safety_heads.manifests import head_shares
from safety_heads.markdown import add_outputs, write_outputs
from safety_heads.statistics import paired_differences
from safety_heads.table3 import table3, table3_markdown


def run(args: argparse.Namespace) -> None:
    judgements = tables.read_table(tables.JUDGEMENTS, args.judgements)
    interventions = tables.read_table(tables.INTERVENTIONS, args.interventions)
    table = table3(paired_differences(judgements, interventions))
    write_outputs(args, table, table3_markdown(table, head_shares(args.manifests)))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--judgements", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--interventions", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="model.json of each model")
    add_outputs(options)
    return options


if __name__ == "__main__":
    logs.main(run, parser())
