"""Responses to judge, from a generations table or from any CSV, JSONL or Parquet file with a `response` column."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from safety_heads import tables
from safety_heads.errors import UserError

READERS = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
    ".jsonl": lambda path: _json_lines(path.read_text(encoding="utf-8")),
    ".parquet": pd.read_parquet,
}
MADE_UP = {"model": "unknown", "format": "unknown", "decoding": "unknown", "intervention": "none"}


def read_responses(path: str | Path) -> pd.DataFrame:
    """One row per response with the key of a generations table, `response`, and `query` if the file has it.

    Half characters (lone surrogates), which neither pandas nor Parquet can hold, become U+FFFD. Key columns that the
    file lacks are made up: the dataset is the file's name, the query_id the row's number from 0.
    Raises UserError for another kind of file, an unreadable one, or one without a `response` column.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise UserError(f"{path}: responses are read from {', '.join(READERS)} files; convert it or rename it")
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        frame = READERS[path.suffix](path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error
    if "response" not in frame.columns:
        raise UserError(f"{path} has no column 'response', only {', '.join(map(str, frame.columns))}; rename one")
    rows = pd.Series(range(len(frame)), dtype=int).astype(str)
    for column, value in {**MADE_UP, "dataset": path.stem, "query_id": rows.array}.items():
        if column not in frame.columns:
            frame[column] = value
    frame[list(tables.GENERATIONS.key)] = frame[list(tables.GENERATIONS.key)].astype(str)
    return frame


def query_texts(responses: pd.DataFrame, queries: Iterable[pd.DataFrame]) -> list[str]:
    """Each response's query: its own `query` column, else the queries table's text; "" if neither has it."""
    if "query" in responses.columns:
        return responses["query"].fillna("").astype(str).tolist()
    texts = {(row.dataset, row.query_id): row.text for table in queries for row in table.itertuples()}
    return [texts.get(key, "") for key in zip(responses["dataset"], responses["query_id"], strict=True)]


def _json_lines(text: str) -> pd.DataFrame:
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame([{key: _whole_characters(value) for key, value in row.items()} for row in rows])


def _whole_characters(value: object) -> object:
    if not isinstance(value, str) or value.isascii():
        return value
    mended = re.sub("[\ud800-\udfff]", "\ufffd", value)
    return value if mended == value else mended
