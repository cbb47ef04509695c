"""How far scores in float16 and bfloat16 agree with float32: rank correlation of all heads and overlap of the top ten.

Every head of each model is scored by Ships and generalised Ships on the same queries, once per dtype; the best ones are
compared. Read-outs (log-probabilities, divergences, angles) are in float32 and float64 whatever the weights are in.
Prints a table and writes it as CSV.
"""

import argparse
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from safety_heads import models, options, queries, scoring  # noqa: E402
from safety_heads.heads import Ablation  # noqa: E402
from safety_heads.ranking import PLACE, top_heads  # noqa: E402

TOP = 10


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    frame = queries.draw(queries.read_query_file(args.queries), "eval", args.n)
    rows = []
    for folder in args.models:
        exact, seconds = scores(folder, "float32", frame, args.format)
        for dtype in args.dtypes:
            rough, taken = scores(folder, dtype, frame, args.format)
            for score in exact.columns:
                rows.append(
                    {
                        "model": folder.name,
                        "dtype": dtype,
                        "score": score,
                        "spearman": spearmanr(exact[score], rough[score]).statistic,
                        f"top{TOP}_overlap": overlap(exact, rough, score),
                        "max_abs_diff": (exact[score] - rough[score]).abs().max(),
                        "cpu_seconds_of_float32": taken / seconds,
                    }
                )
            print(pd.DataFrame(rows[-2:]).to_string(index=False), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows).assign(n_queries=args.n, format=args.format)
    table.to_csv(args.output, index=False)
    print(table.round(4).to_markdown(index=False))


def scores(folder: Path, dtype: str, frame: pd.DataFrame, form: str) -> tuple[pd.DataFrame, float]:
    """Mean Ships in nats and generalised Ships in radians of every head, by (layer, head); and CPU seconds."""
    model, tokenizer = models.load(folder, dtype, "cpu")
    prompts = options.named_format({"name": form}).encode(tokenizer, frame["text"])
    heads = scoring.shard_of(models.describe(folder), 1, 1)
    start = time.process_time()
    scorer = scoring.Scorer(model, prompts)
    ships, subspace = scoring.score_heads(scorer, heads, Ablation("ua", 1e-5), frame["query_id"].tolist())
    seconds = time.process_time() - start
    return pd.concat(
        [ships.groupby(PLACE)["kl_nats"].mean(), subspace.set_index(PLACE)["score_rad"]], axis=1
    ).sort_index(), seconds


def overlap(exact: pd.DataFrame, rough: pd.DataFrame, score: str) -> int:
    """How many of the best heads by `exact` are among the best by `rough`."""
    return len(top_heads(exact.reset_index(), score, TOP) & top_heads(rough.reset_index(), score, TOP))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = [ROOT / "results/models" / name for name in ("aligned-a", "aligned-b")]
    program.add_argument("--models", type=Path, nargs="+", default=folders, metavar="DIR")
    program.add_argument("--queries", type=Path, default=ROOT / "results/queries/advbench.parquet")
    program.add_argument("--n", type=int, default=16, help="queries (default 16)")
    program.add_argument("--format", default="chat")
    program.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"])
    program.add_argument("--threads", type=int, default=2)
    program.add_argument("--output", type=Path, default=ROOT / "results/benchmarks/precision.csv")
    return program


if __name__ == "__main__":
    main()
