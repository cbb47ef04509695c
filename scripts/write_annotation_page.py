"""Write a sample of the answers as an HTML page on which a person labels them, blind and without a network.

The page holds answers to harmful queries: it is for whoever labels, and for nobody else.
"""

import argparse
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.annotation import draw_sample, identify, page, strata
from safety_heads.errors import UserError
from safety_heads.files import atomic_path

TEMPLATE = Path(__file__).parents[1] / "report" / "annotation_page.html"


def run(args: argparse.Namespace) -> None:
    generations = tables.read_table(tables.GENERATIONS, args.responses)
    answers, digest = identify(generations, args.n, args.seed)
    judgements = tables.read_table(tables.JUDGEMENTS, args.judgements)
    interventions = tables.read_table(tables.INTERVENTIONS, args.interventions)
    sample = draw_sample(strata(answers, judgements, interventions), args.n, args.seed)
    queries = tables.read_table(tables.QUERIES, args.queries).rename(columns={"text": "query"})
    asked = sample.merge(queries[["dataset", "query_id", "query"]], on=["dataset", "query_id"], how="left")
    if asked["query"].isna().any():
        row = asked[asked["query"].isna()].iloc[0]
        raise UserError(f"query {row['query_id']!r} of {row['dataset']!r} is in no queries table; add that table")
    html = page(Path(args.template).read_text(encoding="utf-8"), asked, digest)
    with atomic_path(args.output) as partial:
        partial.write_text(html, encoding="utf-8")
    disputed = (~sample["agree"]).sum()
    print(f"{len(sample)} of {len(answers)} answers, {disputed} of them called differently by the judges")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--responses", required=True, nargs="+", metavar="PARQUET", help="generations tables")
    options.add_argument("--judgements", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--interventions", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--queries", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--n", required=True, type=int, help="answers on the page")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--template", default=TEMPLATE, metavar="HTML", help="default: this project's")
    options.add_argument("--output", required=True, metavar="HTML")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
