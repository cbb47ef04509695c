"""Set a person's labels against the judges' verdicts, as CSV and Markdown: accuracy, Cohen's kappa, confusion."""

import argparse
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.annotation import identify, read_labels
from safety_heads.human_agreement import agreement_markdown, human_agreement
from safety_heads.markdown import add_outputs, write_outputs


def run(args: argparse.Namespace) -> None:
    answers, digest = identify(tables.read_table(tables.GENERATIONS, args.responses), args.n, args.seed)
    labels = read_labels(args.labels, answers, digest)
    table = human_agreement(labels, answers, tables.read_table(tables.JUDGEMENTS, args.judgements))
    write_outputs(args, table, agreement_markdown(table, Path(args.labels).name))
    print(f"{labels['label'].ne('').sum()} of {len(labels)} answers are labelled")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--labels", required=True, metavar="CSV", help="exported by the annotation page")
    options.add_argument("--responses", required=True, nargs="+", metavar="PARQUET", help="generations, as the page's")
    options.add_argument("--judgements", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--n", required=True, type=int, help="as the page was written with")
    options.add_argument("--seed", type=int, default=0, help="as the page was written with")
    add_outputs(options)
    return options


if __name__ == "__main__":
    logs.main(run, parser())
