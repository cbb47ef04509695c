"""Tabulate the change of ASR against the number of ablated heads, as CSV and Markdown (paper, tables 3 and 5)."""

import argparse
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.manifests import head_share, read_manifests
from safety_heads.statistics import paired_differences
from safety_heads.table3 import table3, table3_markdown


def run(args: argparse.Namespace) -> None:
    judgements = tables.read_table(tables.JUDGEMENTS, args.judgements)
    interventions = tables.read_table(tables.INTERVENTIONS, args.interventions)
    table = table3(paired_differences(judgements, interventions))
    with tables.atomic_path(args.output_csv) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")
    shares = {name: head_share(manifest) for name, manifest in read_manifests(args.manifests).items()}
    with tables.atomic_path(args.output_md) as partial:
        Path(partial).write_text(table3_markdown(table, shares), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--judgements", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--interventions", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="model.json of each model")
    options.add_argument("--output-csv", required=True, metavar="CSV")
    options.add_argument("--output-md", required=True, metavar="MD")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
