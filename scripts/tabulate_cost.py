"""Tabulate what the run has cost, beside full generation for every head (paper, table 2), as CSV and Markdown."""

import argparse

from safety_heads import logs, tables
from safety_heads.cost import cost_markdown, cost_table, read_benchmarks
from safety_heads.manifests import read_manifests


def run(args: argparse.Namespace) -> None:
    manifests = read_manifests(args.manifests).values()
    asr = tables.read_table(tables.ASR, args.asr)
    asr = asr[asr["judge"] == asr["judge"].iloc[0]]  # all judge the same answers
    n_answers = int(asr["n"].sum() + asr["n_unscored"].sum())
    unablated = asr[asr["intervention"] == "none"]
    n_queries = int(unablated.groupby("model")["n"].sum().max())
    heads = [manifest["n_layers"] * manifest["n_heads"] for manifest in manifests]
    table = cost_table(read_benchmarks(args.benchmarks), n_answers, heads, n_queries)
    with tables.atomic_path(args.output_csv) as partial:
        table.to_csv(partial, index=False, float_format="%.5f")
    with tables.atomic_path(args.output_md) as partial:
        partial.write_text(cost_markdown(table), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--benchmarks", required=True, metavar="DIR", help="Snakemake's benchmark files")
    options.add_argument("--asr", required=True, nargs="+", metavar="PARQUET", help="rates of the run")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="model.json of each model")
    options.add_argument("--output-csv", required=True, metavar="CSV")
    options.add_argument("--output-md", required=True, metavar="MD")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
