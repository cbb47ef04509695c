"""Draw one figure of the paper, or one beside it, from tables, as PNG and PDF."""

import argparse
from functools import partial
from pathlib import Path

from safety_heads import asr_figures, figures, helpfulness_figure, logs, pattern_figures, tables
from safety_heads.errors import UserError
from safety_heads.figure_style import save, select

FIGURES = {  # name: (table it reads, function)
    "ships_heatmap": (tables.SHIPS, figures.ships_heatmap),
    "sign": (tables.SHIPS, figures.sign),
    "contrast": (tables.SHIPS, figures.contrast),
    "score_distribution": (tables.SUBSPACE, figures.score_distribution),
    "overlap_ablations": (tables.SUBSPACE, figures.overlap_ablations),
    "overlap_models": (tables.SUBSPACE, figures.overlap_models),
    "attention_maps": (tables.PATTERNS, pattern_figures.attention_maps),
    "helpfulness": (tables.HELPFULNESS, helpfulness_figure.helpfulness),
    "asr_bars": (tables.ASR, asr_figures.asr_bars),
    "experiments": (tables.ASR, asr_figures.experiments),
    "group_size": (tables.ASR, asr_figures.group_size),
    "group_size_query": (tables.ASR, partial(asr_figures.group_size, level="query")),
}
TELLS_BENIGN = ("ships_heatmap", "contrast", "asr_bars", "experiments", "group_size", "group_size_query")


def run(args: argparse.Namespace) -> None:
    table, draw = FIGURES[args.figure]
    frame = tables.read_table(table, args.tables)
    for pair in args.where:
        column, equals, value = pair.partition("=")
        if not equals or column not in frame.columns:
            raise UserError(f"--where {pair!r}: write column=value with one of {', '.join(frame.columns)}")
        frame = select(frame, **{column: value})
    options = {"benign": tuple(args.benign)} if args.figure in TELLS_BENIGN else {}
    output = Path(args.output)
    if output.suffix != ".png":
        raise UserError(f"--output {output} must end in .png; the .pdf is written beside it")
    save(draw(frame, **options), output.with_suffix(""))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--figure", required=True, choices=FIGURES)
    options.add_argument(
        "--tables", required=True, nargs="+", metavar="PARQUET", help="ships, subspace, asr or other tables"
    )
    options.add_argument("--where", nargs="*", default=[], metavar="COLUMN=VALUE", help="rows to draw, e.g. model=x")
    options.add_argument("--benign", nargs="*", default=[], metavar="DATASET", help="data sets to mark and put last")
    options.add_argument("--output", required=True, metavar="PNG", help="the .pdf is written beside it")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
