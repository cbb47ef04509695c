"""A random sample of a run's Ships scores, computed again from the model and the queries that are in its results."""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from safety_heads import models, options, scoring, tables
from safety_heads.heads import Ablation, Head
from safety_heads.scoring import Scorer

ABSOLUTE, RELATIVE = 1e-4, 1e-3  # nats: the order of additions differs with the heads that share a batch
COARSE_ABSOLUTE, COARSE_RELATIVE = 0.05, 0.1  # of scores in two-byte numbers, or screened in bfloat16


@dataclass(frozen=True)
class Comparison:
    """One score, as stored and as computed again."""

    table: str
    ablation: str
    head: Head
    query_id: str
    stored: float
    again: float
    coarse: bool

    @property
    def agrees(self) -> bool:
        absolute, relative = (COARSE_ABSOLUTE, COARSE_RELATIVE) if self.coarse else (ABSOLUTE, RELATIVE)
        return abs(self.stored - self.again) <= absolute + relative * abs(self.stored)

    def __str__(self) -> str:
        what = f"{self.table}: head {self.head}, {self.ablation}, {self.query_id}"
        return f"{what}: {self.stored:.6f} stored, {self.again:.6f} now"


def shards(results: str | Path) -> list[Path]:
    """The parts of Ships tables in a run's results."""
    return sorted(Path(results).glob("scores/*/*/*/ships-*.parquet"))


def compare(path: Path, results: Path, n_heads: int, draw: random.Random) -> list[Comparison]:
    """`n_heads` heads of one part, drawn at random, scored again for each ablation and query of the part.

    The part's provenance tells how it was made; model and queries are those in `results`.
    """
    stored = tables.read_table(tables.SHIPS, path)
    made = tables.read_provenance(path)["parameters"]
    model, dataset = path.relative_to(results).parts[1:3]
    places = {"model": str(results / "models" / model), "queries": [str(results / f"queries/{dataset}.parquet")]}
    args = argparse.Namespace(**{**made, **places})
    loaded, tokenizer = options.load_model(args)
    queries = options.read_queries(args)
    scorer = Scorer(loaded, options.prompt_format(args).encode(tokenizer, queries["text"]), rank=made["rank"])
    known = sorted({Head(row.layer, row.head) for row in stored[["layer", "head"]].itertuples()})
    heads = sorted(draw.sample(known, min(n_heads, len(known))))
    coarse = bool(made["screened"]) or loaded.dtype.itemsize <= 2
    return [
        comparison
        for ablation in options.ablations(args)
        for comparison in _against(
            stored, path.relative_to(results).as_posix(), scorer, heads, ablation, queries, coarse
        )
    ]


def _against(
    stored: pd.DataFrame,
    table: str,
    scorer: Scorer,
    heads: Sequence[Head],
    ablation: Ablation,
    queries: pd.DataFrame,
    coarse: bool,
) -> list[Comparison]:
    again, _ = scoring.score_heads(scorer, heads, ablation, queries["query_id"].tolist())
    key = ["layer", "head", "query_id"]
    pairs = stored[stored["ablation"] == ablation.kind].merge(again, on=key, suffixes=("", "_again"))
    return [
        Comparison(
            table, ablation.kind, Head(row.layer, row.head), row.query_id, row.kl_nats, row.kl_nats_again, coarse
        )
        for row in pairs.itertuples()
    ]


def weights_changes(weights: dict[str, str], results: Path) -> list[str]:
    """In words: models whose weights no longer have their checksum."""
    return [
        f"the weights of {name} have changed"
        for name, checksum in weights.items()
        if models.weights_checksum(results / "models" / name) != checksum
    ]
