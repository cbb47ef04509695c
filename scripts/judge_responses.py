"""Judge responses: complied, refused, degenerate or unscored (paper, appendix B)."""

import argparse
import json

import pandas as pd

from safety_heads import logs, tables
from safety_heads.judges import JUDGES, ask, open_judge
from safety_heads.judges.responses import query_texts, read_responses

FILES = """
A response file is a generations table, or any .csv, .jsonl or .parquet file with a column `response`.
Of its other columns those that name a generation are kept (model, dataset, format, decoding, intervention,
query_id), and `query` or the --queries tables give the judge the query. Those that are missing are made up:
dataset from the file's name, query_id from the row's number, intervention `none`, the rest `unknown`.
The output is a judgements table; it never contains the responses. The judge is opened once for all files. The two
keyword judges of the paper need no declaration; --place is what the others read: a source's manifest, a fitted judge's
file, the folder of a model, or of a remote judge's cache.
"""


def run(args: argparse.Namespace) -> None:
    responses = pd.concat([read_responses(path) for path in args.responses], ignore_index=True)
    texts = query_texts(responses, [tables.read_table(tables.QUERIES, path) for path in args.queries])
    declaration = args.declaration or {"kind": "keyword", "list": args.judge.removeprefix("keyword-")}
    judge = open_judge(args.judge, declaration, args.place)
    verdicts = ask(args.judge, judge, texts, responses["response"].tolist())
    responses["judge"] = args.judge
    for column in ("verdict", "score", "reason"):
        responses[column] = [getattr(verdict, column) for verdict in verdicts]
    tables.write_table(responses, tables.JUDGEMENTS, args.output, judge=args.judge, judge_version=judge.version)
    counts = responses["verdict"].value_counts()
    print(f"{args.judge}: {len(responses)} responses, " + ", ".join(f"{n} {name}" for name, n in counts.items()))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, epilog=FILES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--judge", required=True, help=f"its name: {', '.join(JUDGES)}, or one's own")
    options.add_argument("--declaration", type=json.loads, metavar="JSON", help="judges.<name> in the config")
    options.add_argument("--place", metavar="PATH", help="what the judge reads, by its kind")
    options.add_argument("--responses", required=True, nargs="+", metavar="FILE")
    options.add_argument(
        "--queries", nargs="*", default=[], metavar="FILE", help="queries tables, if the judge reads them"
    )
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
