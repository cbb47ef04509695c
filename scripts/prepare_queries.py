"""Turn a fetched source into a checked table of queries."""

import argparse
import json
import logging

from safety_heads import logs, queries, sources, tables


def run(args: argparse.Namespace) -> None:
    fetched = sources.read_manifest(args.source)
    frame = queries.read_dataset(args.dataset, args.declaration, fetched)
    made_from = {"declaration": args.declaration, "revision": fetched.revision, "checksums": dict(fetched.checksums)}
    tables.write_table(frame, tables.QUERIES, args.output, dataset=args.dataset, **made_from)
    n_eval = sum(queries.partition(text) == "eval" for text in frame["text"])
    logging.info("%s: %d queries, %d of them on the evaluation side", args.dataset, len(frame), n_eval)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dataset", required=True, help="the data set's name in the config")
    options.add_argument("--declaration", required=True, type=json.loads, metavar="JSON", help="queries.<dataset>")
    options.add_argument("--source", required=True, metavar="MANIFEST", help="what fetch_source.py wrote")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
