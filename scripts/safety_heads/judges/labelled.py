"""Responses that people have labelled, from any source, as one table: what judges are fitted to and measured on.

Errors name a file or a column, never a text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from safety_heads import sources
from safety_heads.errors import UserError
from safety_heads.queries import read_rows


@dataclass(frozen=True)
class LabelledSpec:
    """A set of labelled responses as the config declares it under `labelled.<name>`."""

    source: str
    query: str  # columns
    response: str
    label: str
    complied: Sequence[object]  # values of the label
    refused: Sequence[object]
    files: Sequence[str] = ()  # patterns; none = all files of the source
    category: str | None = None
    rows: int | None = None  # how many there must be


def read_labelled(name: str, declaration: Mapping[str, object], fetched: sources.Fetched) -> pd.DataFrame:
    """The labelled responses as a LABELLED frame; repeated ones, and those with another label, are left out.

    Raises UserError naming file and column if something is missing, or a wrong row count.
    """
    where = f"labelled.{name}"
    spec = sources.declared(LabelledSpec, where, declaration)
    members = sources.matching(fetched.name, fetched.location, spec.files)
    parts = [_read(where, spec, member, sources.read_member(fetched, member)) for member in members]
    frame = pd.concat(parts, ignore_index=True).drop_duplicates(["query", "response"], ignore_index=True)
    sides = {str(value): True for value in spec.complied} | {str(value): False for value in spec.refused}
    frame["complied"] = frame["label"].map(sides)
    frame = frame[frame["complied"].notna() & (frame["response"].str.strip() != "")]
    if spec.rows is not None and len(frame) != spec.rows:
        raise UserError(f"{where}.rows declares {spec.rows} rows, the source has {len(frame)}; pin it or correct rows")
    if frame.empty:
        raise UserError(f"{where}: no row of {spec.label!r} is in complied or refused; correct them")
    ids = [f"{name}-{row:04d}" for row in frame.index]
    return frame.assign(labelled_set=name, query_id=ids, complied=frame["complied"].astype(bool))


def _read(where: str, spec: LabelledSpec, member: str, data: bytes) -> pd.DataFrame:
    lines = data.decode("utf-8-sig", "replace").splitlines(keepends=True)
    while lines and lines[0].startswith("#"):  # some files begin with notes
        lines.pop(0)
    is_text = member.lower().endswith((".csv", ".jsonl"))
    frame = read_rows(member, "".join(lines).encode() if is_text else data)
    wanted = {"query": spec.query, "response": spec.response, "label": spec.label, "category": spec.category}
    for key, column in wanted.items():
        if column is not None and column not in frame.columns:
            there = ", ".join(map(str, frame.columns))
            raise UserError(f"{where}.{key}: {member} has no column {column!r}; its columns are {there}")
    texts = {key: "" if column is None else frame[column].fillna("").astype(str) for key, column in wanted.items()}
    return pd.DataFrame(texts, index=frame.index)
