"""Read a set of human-labelled responses from its fetched source into one checked table."""

import argparse
import json

from safety_heads import logs, sources, tables
from safety_heads.judges.labelled import read_labelled


def run(args: argparse.Namespace) -> None:
    frame = read_labelled(args.name, args.declaration, sources.read_manifest(args.source))
    tables.write_table(frame, tables.LABELLED, args.output, declaration=args.declaration)
    print(f"{args.name}: {len(frame)} labelled responses, {frame['complied'].mean():.2f} complied")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", required=True, help="the set's name in the config")
    options.add_argument("--declaration", required=True, type=json.loads, metavar="JSON", help="labelled.<name>")
    options.add_argument("--source", required=True, metavar="JSON", help="the source's manifest")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
