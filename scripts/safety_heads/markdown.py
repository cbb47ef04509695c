"""Tables for reading: cells, Markdown, and the programs that write a table both as CSV and as Markdown."""

import argparse

import numpy as np
import pandas as pd

from safety_heads.files import atomic_path


def rate(value: float, low: float = np.nan, high: float = np.nan) -> str:
    """A signed change with its interval as the tables print it, e.g. `+0.50 [+0.31, +0.66]`; "" if missing."""
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" [{_signed(low)}, {_signed(high)}]"
    return _signed(value) + interval


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 turns -0.0 into 0.0


def markdown_table(frame: pd.DataFrame) -> str:
    """`frame` as a Markdown table of its values' text; bars inside cells are escaped."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--output-csv, --output-md."""
    parser.add_argument("--output-csv", required=True, metavar="CSV")
    parser.add_argument("--output-md", required=True, metavar="MD")


def write_outputs(args: argparse.Namespace, table: pd.DataFrame, text: str, digits: int = 4) -> None:
    """Write `table` and `text` to the files that `add_outputs`' options name."""
    with atomic_path(args.output_csv) as partial:
        table.to_csv(partial, index=False, float_format=f"%.{digits}f")
    with atomic_path(args.output_md) as partial:
        partial.write_text(text, encoding="utf-8")
