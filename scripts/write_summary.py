"""Write the results in a few lines per model as Markdown, and print them."""

import argparse

from safety_heads import logs, tables
from safety_heads.manifests import read_manifests
from safety_heads.summary import Results, primary, write_summary

TABLES = {
    "ships": tables.SHIPS,
    "subspace": tables.SUBSPACE,
    "interventions": tables.INTERVENTIONS,
    "judgements": tables.JUDGEMENTS,
    "asr": tables.ASR,
    "queries": tables.QUERIES,
}


def run(args: argparse.Namespace) -> None:
    frames = {name: tables.read_table(table, getattr(args, name)) for name, table in TABLES.items()}
    results = Results(**frames, manifests=read_manifests(args.manifests))
    choices = {name: getattr(args, name) for name in ("dataset", "format", "ablation", "decoding", "judge")}
    text = write_summary(results, primary(results, **{name: value for name, value in choices.items() if value}))
    with tables.atomic_path(args.output) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    for name in TABLES:
        options.add_argument(f"--{name}", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="one per model")
    headline = options.add_argument_group("the headline's setting")
    headline.add_argument("--dataset", help="default: the first harmful one of the ships tables")
    headline.add_argument("--format", help="default: the first one of the ships tables")
    headline.add_argument("--ablation", help="default: ua")
    headline.add_argument("--decoding", help="default: greedy")
    headline.add_argument("--judge", help="default: keyword-paper")
    options.add_argument("--output", required=True, metavar="MD")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
