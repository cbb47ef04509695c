"""Count outcomes per example into accuracies, refusals and perplexities, with intervals and paired changes."""

import argparse

from safety_heads import logs, tables
from safety_heads.helpfulness_table import helpfulness_table


def run(args: argparse.Namespace) -> None:
    table = helpfulness_table(tables.read_table(tables.OUTCOMES, args.outcomes))
    tables.write_table(table, tables.HELPFULNESS, args.output, interval="wilson, newcombe, student 95 %")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--outcomes", required=True, nargs="+", metavar="PARQUET", help="of measure_helpfulness.py")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
