"""Write the results in a few lines per model as Markdown, and print them."""

import argparse

from safety_heads import logs, tables
from safety_heads.files import atomic_path
from safety_heads.judge_report import judge_lines
from safety_heads.over_refusal import over_refusal
from safety_heads.results import add_results, read_results
from safety_heads.summary import write_summary


def run(args: argparse.Namespace) -> None:
    results, setting = read_results(args)
    refusals = None
    if args.benign:
        judged = tables.read_table(tables.JUDGEMENTS, args.benign)
        refusals = over_refusal(judged, tables.read_table(tables.INTERVENTIONS, args.benign_interventions), setting)
    judges = "".join(f"- {line}\n" for line in judge_lines(results, setting))
    text = f"{write_summary(results, setting, refusals)}\n## Judges\n\n{judges}"
    with atomic_path(args.output) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add_results(options)
    options.add_argument("--benign", nargs="*", default=[], metavar="PARQUET", help="judgements of benign experiments")
    options.add_argument("--benign-interventions", nargs="*", default=[], metavar="PARQUET", help="and their plans")
    options.add_argument("--output", required=True, metavar="MD")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
