"""All tables of a run together, and the one setting that its headline is about; with the programs' options for both."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields

import pandas as pd

from safety_heads import tables
from safety_heads.errors import UserError
from safety_heads.manifests import read_manifests

TABLES = {
    "ships": tables.SHIPS,
    "subspace": tables.SUBSPACE,
    "interventions": tables.INTERVENTIONS,
    "judgements": tables.JUDGEMENTS,
    "asr": tables.ASR,
    "queries": tables.QUERIES,
    "graded": tables.GRADED,
}


@dataclass(frozen=True)
class Results:
    """The tables of a run, and the manifest of each model."""

    ships: pd.DataFrame
    subspace: pd.DataFrame
    interventions: pd.DataFrame
    judgements: pd.DataFrame
    asr: pd.DataFrame
    queries: pd.DataFrame
    graded: pd.DataFrame  # the judges' verdicts on human-labelled answers
    manifests: Mapping[str, dict]  # by model


@dataclass(frozen=True)
class Primary:
    """The setting of the headline, chosen before the results are seen."""

    dataset: str
    format: str
    ablation: str = "ua"
    decoding: str = "greedy"
    judge: str = "keyword-paper"


def primary(results: Results, dataset: str | None = None, format: str | None = None, **others: str) -> Primary:
    """The headline's setting; by default the first harmful data set and the first format of the Ships table."""
    harmful = harmful_datasets(results)
    if dataset is None and not harmful:
        raise UserError("no harmful data set is among the queries; the summary is about one: add it to run.queries")
    first = Primary(dataset or harmful[0], format or results.ships["format"].iloc[0], **others)
    for column, table in {"dataset": "ships", "format": "ships", "ablation": "ships", "judge": "judgements"}.items():
        if getattr(first, column) not in set(getattr(results, table)[column]):
            raise UserError(f"{column} {getattr(first, column)!r} of the headline is not in the {table} table")
    return first


def harmful_datasets(results: Results) -> list[str]:
    """Harmful data sets in the order of the Ships table."""
    harmful = set(results.queries.loc[results.queries["harmful"], "dataset"])
    return [name for name in results.ships["dataset"].unique() if name in harmful]


def add_results(parser: argparse.ArgumentParser) -> None:
    """One option per table, --manifests, and the headline's setting."""
    for name in TABLES:
        parser.add_argument(f"--{name}", required=True, nargs="+", metavar="PARQUET")
    parser.add_argument("--manifests", required=True, nargs="+", metavar="JSON", help="one per model")
    headline = parser.add_argument_group("the headline's setting")
    headline.add_argument("--dataset", help="default: the first harmful one of the ships tables")
    headline.add_argument("--format", help="default: the first one of the ships tables")
    headline.add_argument("--ablation", help="default: ua")
    headline.add_argument("--decoding", help="default: greedy")
    headline.add_argument("--judge", help="default: keyword-paper")


def read_results(args: argparse.Namespace) -> tuple[Results, Primary]:
    """The tables and the setting that `add_results`' options name."""
    frames = {name: tables.read_table(table, getattr(args, name)) for name, table in TABLES.items()}
    results = Results(**frames, manifests=read_manifests(args.manifests))
    choices = {field.name: getattr(args, field.name) for field in fields(Primary)}
    return results, primary(results, **{name: value for name, value in choices.items() if value})
