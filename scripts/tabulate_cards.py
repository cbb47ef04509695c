"""Tabulate how far each judge can be trusted, on every human-labelled set, and draw one comparison."""

import argparse
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.figure_style import save
from safety_heads.files import atomic_path
from safety_heads.judge_figures import judge_cards
from safety_heads.judges.cards import cards, cards_by_category


def run(args: argparse.Namespace) -> None:
    graded = tables.read_table(tables.GRADED, args.graded)
    table = cards(graded)
    for path, frame in ((args.output_csv, table), (args.output_categories, cards_by_category(graded))):
        with atomic_path(path) as partial:
            frame.to_csv(partial, index=False, float_format="%.4f")
    save(judge_cards(table, graded), Path(args.output_figure).with_suffix(""))
    print(table.to_string(index=False, float_format="%.3f"))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--graded", required=True, nargs="+", metavar="PARQUET")
    options.add_argument("--output-csv", required=True, metavar="CSV")
    options.add_argument("--output-categories", required=True, metavar="CSV", help="the same by category of harm")
    options.add_argument("--output-figure", required=True, metavar="PNG", help="the .pdf is written beside it")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
