"""Hold a run's results against their manifest: every checksum, and a random sample of scores, computed again.

Ends with exit code 1 if anything differs.
"""

import argparse
import random
import sys
from pathlib import Path

from safety_heads import logs, recompute, run_manifest
from safety_heads.errors import UserError
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    results = Path(args.manifest).parent
    manifest = run_manifest.read_manifest(args.manifest)
    differences = run_manifest.changes(manifest, results) + recompute.weights_changes(manifest["weights"], results)
    print(f"{len(manifest['files'])} files and {len(manifest['weights'])} models' weights held against {args.manifest}")
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    draw, parts = random.Random(seed), recompute.shards(results)
    if not parts:
        raise UserError(f"{results} holds no Ships scores; run the workflow first")
    scores = []
    for part in draw.sample(parts, min(args.parts, len(parts))):
        try:
            scores += recompute.compare(part, results, args.heads, draw)
        except UserError as error:
            differences.append(str(error))
    differences += [str(score) for score in scores if not score.agrees]
    print(f"{len(scores)} scores computed again (sample {seed})")
    text = "\n".join(differences) or "Nothing differs."
    print(text)
    if args.output:
        with atomic_path(args.output) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    if differences:
        sys.exit(f"{len(differences)} difference(s)")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--manifest", required=True, metavar="JSON", help="manifest.json in the results folder")
    options.add_argument("--parts", type=int, default=2, help="parts of Ships tables to draw from (default 2)")
    options.add_argument("--heads", type=int, default=5, help="heads drawn of each part (default 5)")
    options.add_argument("--seed", type=int, help="of the sample (default: another each time)")
    options.add_argument("--output", metavar="FILE", help="the differences as text")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
