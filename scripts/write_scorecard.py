"""Set the paper's numbers beside ours and judge its claims, as Markdown, CSV and HTML."""

import argparse

import pandas as pd

from safety_heads import logs, tables
from safety_heads.errors import UserError
from safety_heads.files import atomic_path
from safety_heads.markdown import add_outputs, write_outputs
from safety_heads.report_page import page
from safety_heads.results import add_results, read_results
from safety_heads.scorecard import KEY, claims, compare, scorecard_markdown
from safety_heads.statistics import paired_differences


def run(args: argparse.Namespace) -> None:
    results, setting = read_results(args)
    asr = pd.concat([results.asr, *(tables.read_table(tables.ASR, path) for path in args.experiments)])
    changes = paired_differences(results.judgements, results.interventions)
    numbers = compare(read_reference(args.reference), asr, changes, setting.judge)
    helpfulness = tables.read_table(tables.HELPFULNESS, args.helpfulness) if args.helpfulness else None
    text = scorecard_markdown(numbers, claims(results, setting, helpfulness), setting)
    write_outputs(args, numbers, text)
    with atomic_path(args.output_html) as partial:
        html = page({"Scorecard": text}, [], {}, tables.read_provenance(args.asr[0]))
        partial.write_text(html, encoding="utf-8")


def read_reference(path: str) -> pd.DataFrame:
    columns = ["place", *KEY, "kind", "value"]
    frame = pd.read_csv(path)
    if missing := [name for name in columns if name not in frame.columns]:
        raise UserError(f"{path} has no column {missing[0]!r}; it needs {', '.join(columns)}")
    return frame[columns]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add_results(options)
    options.add_argument("--reference", required=True, metavar="CSV", help="the paper's numbers")
    options.add_argument("--experiments", nargs="*", default=[], metavar="PARQUET", help="rates of the experiments")
    options.add_argument("--helpfulness", nargs="*", metavar="PARQUET", help="of tabulate_helpfulness.py (fig. 6b)")
    add_outputs(options)
    options.add_argument("--output-html", required=True, metavar="HTML", help="the same as a page")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
