"""Time the sweep of all heads as one job, and as shards at once, each with one thread; scores must be as good as equal.

Seconds are by the clock, since what counts is how long a user waits: the machine must be idle and have a core for every
worker. Each job is a process of its own, so what it takes to start and to load the model is in the figures. Prints a
table and writes it as CSV.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {n: run_shards(args, n, Path(folder)) for n in (1, args.workers)}
    (alone, whole), (shared, parts) = runs.values()
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-3, atol=1e-5)  # nats: rounding hangs on the batches
    table = pd.DataFrame({"jobs at once": list(runs), "seconds": [alone, shared], "share": [1.0, shared / alone]})
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.output, index=False)
    print(table.round(3).to_markdown(index=False))
    print(f"{len(whole)} scores, the same within rounding")


def run_shards(args: argparse.Namespace, n_shards: int, folder: Path) -> tuple[float, pd.DataFrame]:
    """Seconds until `n_shards` jobs that start together are done, and their scores."""
    files = [folder / f"{n_shards}-{shard}.parquet" for shard in range(1, n_shards + 1)]
    program = [sys.executable, ROOT / "scripts/score_ships.py", "--model", args.model, "--queries", args.queries]
    program += ["--n", args.n, "--side", "eval", "--format", args.format, "--ablation", "ua", "--shards", n_shards]
    start = time.perf_counter()
    jobs = [
        subprocess.Popen(
            [str(word) for word in (*program, "--shard", shard, "--output", file)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        for shard, file in enumerate(files, start=1)
    ]
    assert [job.wait() for job in jobs] == [0] * n_shards
    seconds = time.perf_counter() - start
    scores = pd.concat([pd.read_parquet(file) for file in files])
    return seconds, scores.sort_values(["layer", "head", "query_id"], ignore_index=True)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_argument("--model", type=Path, default=ROOT / "results/models/aligned-a")
    program.add_argument("--queries", type=Path, default=ROOT / "results/queries/advbench.parquet")
    program.add_argument("--n", type=int, default=16, help="queries (default 16)")
    program.add_argument("--format", default="chat")
    program.add_argument("--workers", type=int, default=2, help="jobs at once (default 2)")
    program.add_argument("--output", type=Path, default=ROOT / "results/benchmarks/shards.csv")
    return program


if __name__ == "__main__":
    main()
