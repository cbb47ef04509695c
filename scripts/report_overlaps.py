"""List the queries that occur in more than one data set, by id."""

import argparse
import logging

from safety_heads import logs, queries, tables
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    frame = tables.read_table(tables.QUERIES, args.queries)
    pairs = queries.overlaps([rows for _, rows in frame.groupby("dataset", sort=False)])
    with atomic_path(args.output) as partial:
        pairs.to_csv(partial, index=False)
    logging.info("%d queries of %d data sets, %d pairs in common", len(frame), frame["dataset"].nunique(), len(pairs))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--queries", required=True, nargs="+", metavar="PARQUET", help="queries tables")
    options.add_argument("--output", required=True, metavar="CSV")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
