"""Tabulate what the run has cost, beside full generation for every head (paper, table 2), as CSV and Markdown."""

import argparse

from safety_heads import logs, tables
from safety_heads.cost import cost_markdown, cost_table, read_benchmarks
from safety_heads.manifests import read_manifests
from safety_heads.markdown import add_outputs, write_outputs


def run(args: argparse.Namespace) -> None:
    manifests = read_manifests(args.manifests).values()
    asr = tables.read_table(tables.ASR, args.asr)
    asr = asr[asr["judge"] == asr["judge"].iloc[0]]  # all judge the same answers
    n_answers = int(asr["n"].sum() + asr["n_unscored"].sum())
    unablated = asr[asr["intervention"] == "none"]
    n_queries = int(unablated.groupby("model")["n"].sum().max())
    heads = [manifest["n_layers"] * manifest["n_heads"] for manifest in manifests]
    table = cost_table(read_benchmarks(args.benchmarks), n_answers, heads, n_queries)
    write_outputs(args, table, cost_markdown(table), digits=5)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--benchmarks", required=True, metavar="DIR", help="Snakemake's benchmark files")
    options.add_argument("--asr", required=True, nargs="+", metavar="PARQUET", help="rates of the run")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="model.json of each model")
    add_outputs(options)
    return options


if __name__ == "__main__":
    logs.main(run, parser())
