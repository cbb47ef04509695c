"""Score every attention head by Ships (paper, eq. 9), and in the same sweep by generalised Ships (eq. 11)."""

import argparse
import logging

import pandas as pd

from safety_heads import logs, models, options, scoring, screening, tables

EXAMPLE = """
example:
  python scripts/score_ships.py --model DIR --queries FILE --format template --ablation ua --output ships.parquet
"""


def run(args: argparse.Namespace) -> None:
    queries, ablations = options.read_queries(args), options.ablations(args)
    model, tokenizer = options.load_model(args)
    shape, prompts = models.describe(args.model), options.prompt_format(args).encode(tokenizer, queries["text"])
    heads = scoring.shard_of(shape, args.shard, args.shards)
    logging.info("%s: %s", args.name, scoring.cost(shape, heads, prompts))
    openings = tables.read_table(tables.OPENINGS, args.openings)["token_id"].tolist() if args.openings else []
    if not openings:
        logging.info("no refusal openings are given: refusal_logodds_change stays empty (find_refusal_openings.py)")
    scorer = scoring.Scorer(model, prompts, openings=openings, rank=args.rank, cache_gib=args.cache_gib)
    ids, coarse = queries["query_id"].tolist(), coarse_scorer(args, scorer)
    parts = []
    for ablation in ablations:
        if coarse is None:
            scores = scoring.score_heads(scorer, heads, ablation, ids)
        else:
            scores = screening.screen_heads(coarse, scorer, heads, ablation, ids)
        parts.append([frame.assign(ablation=ablation.kind) for frame in scores])
    ships, subspace = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    key = {"model": args.name, "dataset": queries["dataset"].iloc[0], "format": args.format}
    how = options.made_from(args, scorer.check) | {"screened": coarse is not None}
    tables.write_table(ships.assign(**key), tables.SHIPS, args.output, **how)
    if args.output_subspace:
        tables.write_table(subspace.assign(**key, step=1), tables.SUBSPACE, args.output_subspace, **how)


def coarse_scorer(args: argparse.Namespace, exact: scoring.Scorer) -> scoring.Scorer | None:
    """A scorer in bfloat16, if heads are to be screened and it would help."""
    if args.screen == "none" or exact.model.dtype.itemsize <= 2:
        return None
    if args.screen == "native" and not models.computes_in_bfloat16(exact.model.device):
        logging.info("this processor has no bfloat16 units: all heads are scored in %s", args.dtype)
        return None
    model, _ = models.load(args.model, "bfloat16", args.device)
    how = {"openings": exact.openings, "rank": args.rank, "check": exact.check, "cache_gib": args.cache_gib}
    return scoring.Scorer(model, exact.prompts, **how)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_model(program)
    options.add_queries(program)
    options.add_format(program)
    options.add_ablations(program)
    program.add_argument("--openings", metavar="PARQUET", help="of find_refusal_openings.py; gives Ships its sign")
    program.add_argument("--rank", type=int, default=1, help="r of eq. 11 (default 1, as published)")
    program.add_argument(
        "--screen",
        default="none",
        choices=("none", "bfloat16", "native"),
        help="bfloat16: all heads in bfloat16 first, and the best tenth again in --dtype; native: if the processor "
        "computes in bfloat16",
    )
    options.add_sweep(program)
    program.add_argument("--output", required=True, metavar="PARQUET", help="the ships table")
    program.add_argument("--output-subspace", metavar="PARQUET", help="generalised Ships, step 1 of Sahara")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
