"""Draw the attack success rate of every single head beside its Ships (paper, fig. 4b), as PNG and PDF."""

import argparse
from pathlib import Path

from safety_heads import figures, logs, tables
from safety_heads.figure_style import save


def run(args: argparse.Namespace) -> None:
    asr = tables.read_table(tables.ASR, args.asr)
    heads = tables.read_table(tables.INTERVENTIONS, args.interventions)
    ships = tables.read_table(tables.SHIPS, args.ships)
    save(figures.asr_map(asr, heads, ships), Path(args.output).with_suffix(""))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    program.add_argument("--asr", required=True, metavar="PARQUET", help="one rate per head")
    program.add_argument("--interventions", required=True, nargs="+", metavar="PARQUET", help="of list_heads.py")
    program.add_argument("--ships", required=True, nargs="+", metavar="PARQUET", help="of the same setting")
    program.add_argument("--output", required=True, metavar="PNG", help="the .pdf is written beside it")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
