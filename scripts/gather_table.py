"""Put the parts of a table together, checked: keys must be unique over all parts."""

import argparse

from safety_heads import logs, tables

TABLES = {
    table.name: table
    for table in (tables.SHIPS, tables.SUBSPACE, tables.INTERVENTIONS, tables.GENERATIONS, tables.JUDGEMENTS)
}


def run(args: argparse.Namespace) -> None:
    table = TABLES[args.table]
    parts = [tables.read_provenance(path)["parameters"] for path in args.inputs]
    tables.write_table(tables.read_table(table, args.inputs), table, args.output, parts=parts)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--table", required=True, choices=TABLES)
    options.add_argument("--inputs", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
