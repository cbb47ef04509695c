"""One further step of Sahara: score the group chosen so far with each other head added (paper, algorithm 1)."""

import argparse
import logging

import pandas as pd

from safety_heads import logs, models, options, sahara, scoring, tables
from safety_heads.errors import UserError


def run(args: argparse.Namespace) -> None:
    queries = options.read_queries(args)
    earlier = tables.read_table(tables.SUBSPACE, args.subspace)
    shape = models.describe(args.model)
    shard = scoring.shard_of(shape, args.shard, args.shards)
    plans = []
    for ablation in options.ablations(args):
        own = earlier[earlier["ablation"] == ablation.kind]
        group = sahara.group(own)
        if len(group) >= shape.n_layers * shape.n_heads:
            raise UserError(f"the group already holds all {len(group)} heads of the model; lower run.group_size")
        plans.append((ablation, group, sahara.candidates(own, shard, args.candidates)))
    model, tokenizer = options.load_model(args)
    prompts = options.prompt_format(args).encode(tokenizer, queries["text"])
    parts, check = [], None
    for ablation, group, heads in plans:
        logging.info("%s with %s: %s", args.name, ", ".join(map(str, group)), scoring.cost(shape, heads, prompts))
        chosen, how = [(head, ablation) for head in group], {"rank": args.rank, "cache_gib": args.cache_gib}
        scorer = scoring.Scorer(model, prompts, chosen, check=check, **how)
        check = scorer.check
        scores = [scorer.subspace(readout) for readout in scorer.readouts(heads, ablation)]
        parts += [frame.assign(ablation=ablation.kind, step=len(group) + 1) for frame in scores]
    empty = pd.DataFrame(columns=tables.SUBSPACE.schema.names, dtype=object)  # a shard may hold no candidate
    key = {"model": args.name, "dataset": queries["dataset"].iloc[0], "format": args.format}
    rows = pd.concat(parts or [empty], ignore_index=True).assign(**key)
    tables.write_table(rows, tables.SUBSPACE, args.output, **options.made_from(args, check))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_queries(program)
    options.add_format(program)
    options.add_ablations(program)
    program.add_argument("--subspace", required=True, nargs="+", metavar="PARQUET", help="all earlier steps' scores")
    program.add_argument("--rank", type=int, default=1, help="r of eq. 11 (default 1, as published)")
    program.add_argument("--candidates", type=int, help="score only the best of step 1 (default: all, as in the paper)")
    options.add_sweep(program)
    program.add_argument("--output", required=True, metavar="PARQUET", help="the next step's scores")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
