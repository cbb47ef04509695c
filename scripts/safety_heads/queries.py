"""One table of queries from any source: reading, checking, splitting and sampling.

A query's id is `<dataset>-<row>`: its row number in the source, counted from 0 over all files before anything is
skipped or left out, so that ids stay when the selection changes. Texts are stripped, their whitespace squeezed.
Errors name a file, a row or a column, never a text.
"""

import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from safety_heads import sources, tables
from safety_heads.errors import UserError

TEXT_COLUMNS = ("query", "text", "goal", "prompt")  # looked for, in this order, when no column is declared
SIDES = ("train", "eval")
SHOWN_LABELS, SHOWN_LETTERS = 5, 24  # in a message
FILE, ROW, NUMBER = "__file__", "__row__", "__number__"  # where a row came from, beside the file's own columns


@dataclass(frozen=True)
class DatasetSpec:
    """A data set as the config declares it under `queries.<name>`."""

    harmful: bool | None
    source: str = ""
    files: Sequence[str] = ()  # none = the source is a single file
    column: str | None = None  # none = the first of TEXT_COLUMNS
    category: str | None = None
    skip: int = 0  # leading rows left out
    keep: Mapping[str, object] = field(default_factory=dict)  # column, equals
    first_paragraph: bool = False  # the text ends at the first blank line
    rows: int | None = None  # how many queries there must be


def read_dataset(dataset: str, declaration: Mapping[str, object], fetched: sources.Fetched) -> pd.DataFrame:
    """The queries that the config declares under `queries.<dataset>`, from its fetched source.

    Raises UserError naming file and row for missing columns, empty or repeated queries, or a wrong row count.
    """
    spec = sources.declared(DatasetSpec, f"queries.{dataset}", declaration)
    parts = {member or fetched.location.name: sources.read_member(fetched, member) for member in (spec.files or [None])}
    return prepare(dataset, spec, parts)


def read_query_file(path: str | Path) -> pd.DataFrame:
    """Queries from a file given by hand: a queries table, or CSV, JSON (Lines), Parquet or text of one's own.

    Such a file needs a column `query`, `text`, `goal` or `prompt`. Its name becomes the data set's, and whether
    its queries are harmful is unknown (null).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error
    if path.suffix == ".parquet" and set(tables.QUERIES.schema.names) <= set(read_rows(path.name, data).columns):
        return tables.read_table(tables.QUERIES, path)
    return prepare(path.stem, DatasetSpec(harmful=None, source=path.name), {path.name: data})


def prepare(dataset: str, spec: DatasetSpec, parts: Mapping[str, bytes]) -> pd.DataFrame:
    """A QUERIES frame from the bytes of a data set's files, by file name, in order."""
    where = f"queries.{dataset}"
    frame = pd.concat([_located(where, name, data, spec) for name, data in parts.items()], ignore_index=True)
    frame[NUMBER] = range(len(frame))
    frame = _kept(where, frame.iloc[spec.skip :], spec.keep)
    texts = [squeeze(_first_paragraph(text) if spec.first_paragraph else text) for text in frame["text"]]
    _check(where, texts, [f"{file} row {row}" for file, row in zip(frame[FILE], frame[ROW], strict=True)], spec.rows)
    return pd.DataFrame(
        {
            "dataset": dataset,
            "query_id": [f"{dataset}-{number:04d}" for number in frame[NUMBER]],
            "text": texts,
            "category": [squeeze(category) or None for category in frame["category"]],
            "harmful": pd.Series([spec.harmful] * len(frame), dtype=object),
            "source": spec.source or dataset,
        }
    )


def read_rows(name: str, data: bytes) -> pd.DataFrame:
    """The rows of one file, by its suffix: csv, jsonl, json (a list), parquet, or txt (one query per line)."""
    readers: dict[str, Callable[[bytes], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".json": lambda data: _records(json.loads(_decoded(data))),
        ".parquet": lambda data: pd.read_parquet(io.BytesIO(data)),
        ".txt": lambda data: pd.DataFrame({"text": _decoded(data).rstrip("\r\n").split("\n")}),
    }
    suffix = Path(name).suffix.lower()
    if suffix not in readers:
        raise UserError(f"{name}: no reader for {suffix or 'a file without suffix'!r}; use {', '.join(readers)}")
    try:
        return readers[suffix](data)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (ValueError, pa.ArrowException, OSError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error).strip().splitlines()[0]
        raise UserError(f"{name} is damaged or no {suffix} file ({reason}); mend it or fetch it again") from error


def squeeze(text: str) -> str:
    """`text` without whitespace around it and with single spaces within."""
    return " ".join(text.split())


def normalised(text: str) -> str:
    """What makes two queries the same: the text but for case, whitespace and punctuation at its end."""
    text = squeeze(text.casefold())
    while text and (text[-1].isspace() or unicodedata.category(text[-1]).startswith("P")):
        text = text[:-1]
    return text


def partition(text: str) -> str:
    """`train` or `eval`, by the hash of the normalised text: equal queries fall on one side in every data set."""
    return SIDES[hashlib.sha256(normalised(text).encode()).digest()[0] % 2]


def sample(frame: pd.DataFrame, n: int, seed: int, skip: int = 0) -> pd.DataFrame:
    """`n` queries in an order fixed by `seed` and their ids, without the first `skip`; a larger n only adds rows.

    Raises UserError if fewer than n remain.
    """
    name = ", ".join(frame["dataset"].unique()) or "the data set"
    if n < 1 or skip < 0:
        raise UserError(f"{name}: cannot sample {n} queries after skipping {skip}; use n >= 1 and skip >= 0")
    if skip + n > len(frame):
        left = max(len(frame) - skip, 0)
        raise UserError(
            f"{name}: {n} queries wanted, {left} available ({len(frame)} less {skip} skipped); ask for fewer"
        )
    keys = [hashlib.sha256(f"{seed}:{query_id}".encode()).hexdigest() for query_id in frame["query_id"]]
    order = sorted(range(len(frame)), key=keys.__getitem__)
    return frame.iloc[order[skip : skip + n]].reset_index(drop=True)


def draw(frame: pd.DataFrame, side: str = "all", n: int | None = None, seed: int = 0, skip: int = 0) -> pd.DataFrame:
    """`n` queries of one side (`train`, `eval`; or `all`), drawn by `sample`; without n all of them, in their order."""
    if side != "all":
        frame = frame[[partition(text) == side for text in frame["text"]]].reset_index(drop=True)
    return frame if n is None else sample(frame, n, seed, skip)


def overlaps(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Pairs of rows from different data sets with the same normalised text; ids only, no texts."""
    rows = pd.concat(frames, ignore_index=True)
    rows = rows.assign(same=rows["text"].map(normalised))[["dataset", "query_id", "same"]]
    pairs = rows.merge(rows, on="same", suffixes=("_a", "_b"))
    rank = {name: place for place, name in enumerate(rows["dataset"].unique())}
    pairs = pairs[pairs["dataset_a"].map(rank) < pairs["dataset_b"].map(rank)]
    columns = ["dataset_a", "query_id_a", "dataset_b", "query_id_b"]
    return pairs[columns].sort_values(columns, ignore_index=True)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8-sig")


def _read_csv(data: bytes) -> pd.DataFrame:
    text = _decoded(data).strip("\r\n")
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would shift the columns
        raise ValueError("row 0 has more fields than the header; quote texts that hold commas")
    return frame


def _read_json_lines(data: bytes) -> pd.DataFrame:
    records = []
    for number, line in enumerate(_decoded(data).split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg}") from error
    return _records(records)


def _records(values: object) -> pd.DataFrame:
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return pd.DataFrame({"text": values})
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("expected a list of objects, or of strings")
    return pd.DataFrame(values, dtype=object)


def _located(where: str, name: str, data: bytes, spec: DatasetSpec) -> pd.DataFrame:
    """One file's text, category and filter columns as strings, with the place of every row."""
    frame = read_rows(name, data)
    column = spec.column or next((column for column in TEXT_COLUMNS if column in frame.columns), None)
    wanted = {"text": column, "category": spec.category, "keep": spec.keep.get("column")}
    for key, wants in wanted.items():
        if (key == "text" or wants is not None) and wants not in frame.columns:
            there = ", ".join(map(str, frame.columns)) or "none"
            expected = repr(wants) if wants else " or ".join(map(repr, TEXT_COLUMNS))
            raise UserError(f"{where}: {name} has no column {expected}; its columns are {there}; correct {where}")
    for row, value in enumerate(frame[column]):
        place = f"{where}: {name} row {row}"
        if not isinstance(value, str) and not _is_null(value):
            raise UserError(f"{place} holds a {type(value).__name__} in {column!r}, not a text; choose another column")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UserError(f"{place} holds half a character (a lone surrogate); mend its encoding")
    found = {key: _strings(frame[wants]) if wants is not None else "" for key, wants in wanted.items()}
    return pd.DataFrame({**found, FILE: name, ROW: range(len(frame))}, index=range(len(frame)))


def _is_null(value: object) -> bool:
    return pd.api.types.is_scalar(value) and pd.isna(value)


def _strings(values: pd.Series) -> list[str]:
    return ["" if _is_null(value) else str(value).encode(errors="replace").decode() for value in values]


def _kept(where: str, frame: pd.DataFrame, keep: Mapping[str, object]) -> pd.DataFrame:
    if keep:
        column, equals = keep.get("column"), keep.get("equals")
        there = ", ".join(value[:SHOWN_LETTERS] for value in frame["keep"].unique()[:SHOWN_LABELS])
        frame = frame[frame["keep"] == str(equals)]
        if frame.empty:
            raise UserError(f"{where}.keep: no row has {column} = {equals!r}; there are {there}; correct {where}.keep")
    if frame.empty:
        raise UserError(f"{where}: no query is left; check skip and the source's files")
    return frame


def _first_paragraph(text: str) -> str:
    return re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]


def _check(where: str, texts: Sequence[str], places: Sequence[str], rows: int | None) -> None:
    first: dict[str, str] = {}
    for text, place in zip(texts, places, strict=True):
        if not text:
            raise UserError(f"{where}: {place} is empty; remove it or fill it in (rows count from 0)")
        if text in first:
            raise UserError(f"{where}: {place} repeats {first[text]}; remove one of them (rows count from 0)")
        first[text] = place
    if rows is not None and len(texts) != rows:
        raise UserError(
            f"{where}.rows declares {rows} queries, the source has {len(texts)}; pin the source or correct it"
        )
