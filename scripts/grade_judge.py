"""Set a judge's verdicts on human-labelled responses beside what people say.

A judge that was fitted to the set is measured by cross-validation: no response by a judge that knew its query, or,
with --by category, its category of harm; the set is then called `<set>, left-out categories`.
"""

import argparse
import json

from safety_heads import logs, tables
from safety_heads.judges import ask, open_judge
from safety_heads.judges.cards import cross_validated, graded


def run(args: argparse.Namespace) -> None:
    labelled = tables.read_table(tables.LABELLED, args.labelled)
    judge = open_judge(args.judge, args.declaration, args.place)
    if args.declaration.get("labelled") == labelled["labelled_set"].iloc[0]:
        frame = cross_validated(args.judge, judge.version, labelled, args.by)
    else:
        verdicts = ask(args.judge, judge, labelled["query"].tolist(), labelled["response"].tolist())
        frame = graded(args.judge, judge.version, labelled, verdicts)
    tables.write_table(frame, tables.GRADED, args.output, judge=args.judge, judge_version=judge.version)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--judge", required=True, help="its name")
    options.add_argument("--declaration", required=True, type=json.loads, metavar="JSON", help="judges.<name>")
    options.add_argument("--place", metavar="PATH", help="what the judge reads, by its kind")
    options.add_argument("--labelled", required=True, metavar="PARQUET", help="a labelled table")
    options.add_argument("--by", choices=["query", "category"], default="query", help="how a fitted judge is measured")
    options.add_argument("--output", required=True, metavar="PARQUET", help="a graded table; it holds no texts")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
