"""Draw the rates of the same answers under every judge, raw and corrected for its known error, as PNG and PDF."""

import argparse
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.agreement import corrected
from safety_heads.figure_style import save
from safety_heads.judge_figures import asr_judges
from safety_heads.judges.cards import errors


def run(args: argparse.Namespace) -> None:
    asr = tables.read_table(tables.ASR, args.asr)
    graded = tables.read_table(tables.GRADED, args.graded)
    frame = corrected(asr, errors(graded, args.labelled_set))
    save(asr_judges(frame, ablation=args.ablation), Path(args.output).with_suffix(""))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--asr", required=True, metavar="PARQUET", help="one model's rates")
    options.add_argument("--graded", required=True, nargs="+", metavar="PARQUET", help="graded tables of the judges")
    options.add_argument("--labelled-set", required=True, help="the labelled set whose errors correct the rates")
    options.add_argument("--ablation", help="default: the first of the table")
    options.add_argument("--output", required=True, metavar="PNG")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
